//! Consistent lists, page by page.
//!
//! The first page is asked for without a version, so that it is read from the store and not from a cache; the others
//! continue it and are of the same version. A list whose continuation has become too old begins anew.

use std::fmt;

use serde::de::DeserializeOwned;

use super::api::{Api, Failure};
use super::wire::{Page, PageMetadata};
use crate::ports::cluster::ClusterErrorClass;

/// Objects on a page: client-go's default.
const PAGE: u32 = 500;

/// Pages of one list: 10,000,000 objects are more than a cluster holds, so more means that paging does not end.
const PAGES_MAX: u32 = 20_000;

/// How often a list may begin anew within one call: continuations last 5 minutes, so a second time is hopeless.
const RESTARTS_MAX: u32 = 3;

/// Label selector of virtual nodes, on which ECI pods run.
const VIRTUAL_NODES: &str = "labelSelector=type%3Dvirtual-kubelet";

/// Field selector of the one definition that is looked at.
const DEFINITION: &str = "fieldSelector=metadata.name%3Dpoddnats.alibabacloud.com";

/// Something that is listed and watched.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    path: String,
    /// A query that narrows it, encoded.
    selector: Option<&'static str>,
}

impl Resource {
    pub(super) fn pods() -> Self {
        Self { path: "/api/v1/pods".to_owned(), selector: None }
    }

    pub(super) fn pods_of(namespace: &str) -> Self {
        Self { path: format!("/api/v1/namespaces/{namespace}/pods"), selector: None }
    }

    pub(super) fn claims() -> Self {
        Self { path: format!("{}/poddnats", super::client::CLAIMS), selector: None }
    }

    pub(super) fn definition() -> Self {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions".to_owned();
        Self { path, selector: Some(DEFINITION) }
    }

    pub(super) fn namespaces() -> Self {
        Self { path: "/api/v1/namespaces".to_owned(), selector: None }
    }

    pub(super) fn locks() -> Self {
        Self { path: "/apis/coordination.k8s.io/v1/leases".to_owned(), selector: None }
    }

    pub(super) fn virtual_nodes() -> Self {
        Self { path: "/api/v1/nodes".to_owned(), selector: Some(VIRTUAL_NODES) }
    }

    /// The path of a page; the first one has no continuation.
    pub(super) fn page(&self, token: &str) -> String {
        let mut path = format!("{}?limit={PAGE}", self.path);
        if !token.is_empty() {
            path.extend(["&continue=", &encoded(token)]);
        }
        self.narrowed(path)
    }

    /// The path of a watch that begins after a version.
    pub(super) fn watch(&self, version: &str, seconds: u64) -> String {
        let path = &self.path;
        let watch = format!("{path}?watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}");
        self.narrowed(format!("{watch}&resourceVersion={}", encoded(version)))
    }

    fn narrowed(&self, mut path: String) -> String {
        if let Some(selector) = self.selector {
            path.extend(["&", selector]);
        }
        path
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// A whole list, and the version of which it is.
#[derive(Debug)]
pub(super) struct Listed<T> {
    pub(super) items: Vec<T>,
    pub(super) version: Option<u64>,
}

/// Reads a whole list.
pub(super) async fn list<T: DeserializeOwned>(api: &Api, resource: &Resource) -> Result<Listed<T>, Failure> {
    let (mut items, mut token, mut restarts) = (Vec::new(), String::new(), 0);
    for _ in 0..PAGES_MAX {
        let page: Page<T> = match api.page(&resource.page(&token)).await {
            Ok(page) => page,
            Err(failure) if failure.is_expired() && !token.is_empty() && restarts < RESTARTS_MAX => {
                restarts += 1;
                items.clear();
                token.clear();
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let PageMetadata { resource_version, r#continue } = page.metadata.clone();
        items.extend(page.into_items());
        if r#continue.is_empty() {
            return Ok(Listed { items, version: resource_version.parse().ok() });
        }
        token = r#continue;
    }
    Err(Failure::new(ClusterErrorClass::Busy, format!("the list does not end after {PAGES_MAX} pages")))
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_is_wanted() {
        assert_eq!(Resource::pods().page(""), "/api/v1/pods?limit=500");
        assert_eq!(Resource::pods_of("a").page("x=/"), "/api/v1/namespaces/a/pods?limit=500&continue=x%3D%2F");
        let nodes = Resource::virtual_nodes();
        assert_eq!(nodes.page(""), "/api/v1/nodes?limit=500&labelSelector=type%3Dvirtual-kubelet");
        let watch = "/apis/alibabacloud.com/v1beta1/poddnats?watch=true&allowWatchBookmarks=true&timeoutSeconds=290\
                     &resourceVersion=7";
        assert_eq!(Resource::claims().watch("7", 290), watch);
    }
}
