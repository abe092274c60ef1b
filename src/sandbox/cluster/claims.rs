//! PodDNATs by the API server's rules: one object a name, writes only over what was read, a status beside the spec,
//! finalizers that hold a deleted object, and collection of what lost its owners.

use super::watch::Change;
use super::{Due, Model};
use crate::cluster::poddnat::{
    self, FIELD_MANAGER, FINALIZER, Kept, ManagedFields, OwnerReference, PodDnat, claim_of, encode_status, found,
};
use crate::machine::event::seen::ClaimGone;
use crate::machine::identity::PodKey;
use crate::ports::cluster::{ClaimFound, ClusterError, ClusterErrorClass, Mapping, Publication};

/// What the API server says in a refusal.
pub(super) const fn refused(call: &'static str, class: ClusterErrorClass, message: String) -> ClusterError {
    ClusterError { call, class, message }
}

impl Model {
    /// Reads a PodDNAT.
    #[must_use]
    pub fn read_claim(&self, key: &PodKey) -> Option<ClaimFound> {
        self.claims.get(key).map(found)
    }

    /// Creates a PodDNAT.
    ///
    /// # Errors
    /// `AlreadyExists` where there is one of that name, also one that is being deleted; `Refused` in a namespace that is
    /// being deleted.
    pub fn create_claim(&mut self, mapping: &Mapping) -> Result<ClaimFound, ClusterError> {
        let key = &mapping.key;
        if self.claims.contains_key(key) {
            let message = format!("poddnats.alibabacloud.com {:?} already exists", key.name());
            return Err(refused("create_claim", ClusterErrorClass::AlreadyExists, message));
        }
        if self.ending.contains(key.namespace()) {
            let message =
                format!("namespace {:?} is being terminated: no object can be created in it", key.namespace());
            return Err(refused("create_claim", ClusterErrorClass::Refused, message));
        }
        let mut object = poddnat::encode(mapping, poddnat::owner_of(mapping));
        object.metadata.uid = self.next_uid();
        object.metadata.generation = 1;
        object.metadata.creation_timestamp = Some(self.wall_text());
        let manager = FIELD_MANAGER.to_owned();
        object.metadata.managed_fields = vec![ManagedFields { manager, ..ManagedFields::default() }];
        self.write(key, object);
        self.read_back("create_claim", key)
    }

    /// Replaces spec, claim annotation and owner, and sets the finalizer where it is missing. The status stays; an equal
    /// object is not written again.
    ///
    /// # Errors
    /// `Gone` where there is none of that name, `Conflict` where it is not what was found, `Refused` where a finalizer
    /// would be added to an object that is being deleted.
    pub fn replace_claim(&mut self, mapping: &Mapping, found: &ClaimFound) -> Result<ClaimFound, ClusterError> {
        let call = "replace_claim";
        let before = self.standing(call, &mapping.key, found)?;
        let mut object = before.clone();
        poddnat::rewrite(&mut object, mapping, poddnat::owner_of(mapping));
        if !object.metadata.managed_fields.iter().any(|writer| writer.manager == FIELD_MANAGER) {
            let manager = FIELD_MANAGER.to_owned();
            object.metadata.managed_fields.push(ManagedFields { manager, ..ManagedFields::default() });
        }
        if object.metadata.deletion_timestamp.is_some() && object.metadata.finalizers != before.metadata.finalizers {
            let message = "no new finalizers can be added if the object is being deleted".to_owned();
            return Err(refused(call, ClusterErrorClass::Refused, message));
        }
        self.update(&mapping.key, object);
        self.read_back(call, &mapping.key)
    }

    /// Replaces the status and nothing else.
    ///
    /// # Errors
    /// `Gone` where there is none of that name, `Conflict` where it is not what was found.
    pub fn write_status(&mut self, publication: &Publication, found: &ClaimFound) -> Result<(), ClusterError> {
        let mut object = self.standing("write_status", &publication.key, found)?.clone();
        object.status = encode_status(publication, &object.status, &self.wall_text());
        self.update(&publication.key, object);
        Ok(())
    }

    /// Asks for the deletion of the PodDNAT with that UID: at once where no finalizer holds it. Success where it has gone
    /// or goes already; one of another UID under that name is not touched.
    pub fn delete_claim(&mut self, key: &PodKey, uid: &str) {
        let Some(object) = self.claims.get(key).filter(|object| object.metadata.uid == uid) else { return };
        if object.metadata.finalizers.is_empty() {
            self.remove_claim(key);
        } else if object.metadata.deletion_timestamp.is_none() {
            let mut object = object.clone();
            object.metadata.deletion_timestamp = Some(self.wall_text());
            object.metadata.deletion_grace_period_seconds = Some(0);
            // The API server counts the request to delete as a change of what is wanted.
            object.metadata.generation = object.metadata.generation.saturating_add(1);
            self.write(key, object);
        }
    }

    /// Takes our finalizer off. With the last finalizer, an object that is being deleted goes.
    ///
    /// # Errors
    /// `Gone` where there is none of that name, `Conflict` where it is not what was found.
    pub fn strip_finalizer(&mut self, key: &PodKey, found: &ClaimFound) -> Result<(), ClusterError> {
        let mut object = self.standing("strip_finalizer", key, found)?.clone();
        object.metadata.finalizers.retain(|finalizer| finalizer != FINALIZER);
        self.update(key, object);
        Ok(())
    }

    /// Asks for the deletion of a PodDNAT of which no owner is left.
    pub(super) fn collect(&mut self, key: &PodKey, uid: &str) {
        let Some(object) = self.claims.get(key).filter(|object| object.metadata.uid == uid) else { return };
        let owners = &object.metadata.owner_references;
        if !owners.is_empty() && !owners.iter().any(|owner| self.exists(key, owner)) {
            self.delete_claim(key, uid);
        }
    }

    /// Writes an object over one that is there. Nothing happens where nothing would change; an object that is being
    /// deleted goes with its last finalizer.
    pub(super) fn update(&mut self, key: &PodKey, mut object: PodDnat) {
        let Some(before) = self.claims.get(key) else { return };
        if object == *before {
            return;
        }
        if object.spec != before.spec {
            object.metadata.generation = object.metadata.generation.saturating_add(1);
        }
        if object.metadata.deletion_timestamp.is_some() && object.metadata.finalizers.is_empty() {
            self.remove_claim(key);
        } else {
            self.write(key, object);
        }
    }

    /// The object of a name, if it is still what was found.
    fn standing(&self, call: &'static str, key: &PodKey, found: &ClaimFound) -> Result<&PodDnat, ClusterError> {
        let Some(object) = self.claims.get(key) else {
            let message = format!("poddnats.alibabacloud.com {:?} not found", key.name());
            return Err(refused(call, ClusterErrorClass::Gone, message));
        };
        let (uid, version) = (&object.metadata.uid, &object.metadata.resource_version);
        if *uid != found.uid {
            let message = format!("Precondition failed: UID in precondition: {}, UID in object meta: {uid}", found.uid);
            return Err(refused(call, ClusterErrorClass::Conflict, message));
        }
        if *version != found.resource_version {
            let message =
                format!("the object has been modified: it is at version {version}, not {}", found.resource_version);
            return Err(refused(call, ClusterErrorClass::Conflict, message));
        }
        Ok(object)
    }

    fn read_back(&self, call: &'static str, key: &PodKey) -> Result<ClaimFound, ClusterError> {
        let gone =
            || refused(call, ClusterErrorClass::Gone, format!("poddnats.alibabacloud.com {:?} not found", key.name()));
        self.read_claim(key).ok_or_else(gone)
    }

    fn exists(&self, key: &PodKey, owner: &OwnerReference) -> bool {
        if owner.kind == "Pod" {
            let name = self.names.get(&owner.uid);
            return name.is_some_and(|name| name.namespace() == key.namespace() && *name.name() == *owner.name);
        }
        self.controllers.contains(&owner.uid)
    }

    pub(super) fn write(&mut self, key: &PodKey, mut object: PodDnat) {
        let version = self.next_version();
        object.metadata.resource_version = version.to_string();
        self.history.record(version, Change::Claim(claim_of(&object, Kept::ALL)));
        self.forget_owners(key);
        let orphan = !object.metadata.owner_references.iter().any(|owner| self.exists(key, owner));
        for owner in &object.metadata.owner_references {
            self.owned.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        if orphan && !object.metadata.owner_references.is_empty() {
            self.schedule(self.settings.collection_ms, Due::Collect(key.clone(), object.metadata.uid.clone()));
        }
        self.claims.insert(key.clone(), object);
    }

    fn remove_claim(&mut self, key: &PodKey) {
        self.forget_owners(key);
        let Some(object) = self.claims.remove(key) else { return };
        let version = self.next_version();
        let (namespace, name) = (key.namespace().to_string(), key.name().to_string());
        self.history.record(version, Change::ClaimGone(ClaimGone { namespace, name, uid: object.metadata.uid }));
        self.finish_namespace(key.namespace());
    }

    fn forget_owners(&mut self, key: &PodKey) {
        let owners = self.claims.get(key).map(|object| object.metadata.owner_references.clone()).unwrap_or_default();
        for owner in owners {
            if let Some(owned) = self.owned.get_mut(&owner.uid) {
                owned.remove(key);
                if owned.is_empty() {
                    self.owned.remove(&owner.uid);
                }
            }
        }
    }
}
