use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::machine::identity::{Protocol, Tuple};
use crate::ports::cloud::{Cloud, CreateEntry, DeleteEntry, ErrorClass};

pub(super) const TABLE: &str = "ftb-sandbox-j";
pub(super) const OTHER_TABLE: &str = "ftb-sandbox-k";

pub(super) fn quiet() -> Vpc {
    Vpc::new(World::default(), Behaviour::default(), Faults::none(), 1)
}

pub(super) fn with_fault(kind: FaultKind) -> Vpc {
    Vpc::new(World::default(), Behaviour::default(), Faults::none().with(kind, 1.0), 1)
}

pub(super) fn tuple(port: u16) -> Tuple {
    Tuple {
        external_ip: Ipv4Addr::new(203, 0, 113, 1),
        external_port: port,
        internal_ip: Ipv4Addr::new(172, 16, 0, 9),
        internal_port: port,
        protocol: Protocol::Tcp,
    }
}

pub(super) fn spec(port: u16) -> NewEntry {
    NewEntry::of(TABLE.into(), tuple(port), "natgw")
}

pub(super) fn create(entry: NewEntry, token: &str) -> Request {
    Request::CreateForwardEntry { entry, token: Some(token.to_owned()), dry_run: false }
}

pub(super) fn delete(entry: &EntryId, token: &str) -> Request {
    Request::DeleteForwardEntry { table: TABLE.into(), entry: entry.clone(), token: Some(token.to_owned()) }
}

pub(super) fn list(number: u32, size: u32, filter: EntryFilter) -> Request {
    let page = PageSpec { number, size };
    Request::DescribeForwardTableEntries { table: Some(TABLE.into()), gateway: None, filter, page }
}

pub(super) fn answer(vpc: &mut Vpc, now_ms: u64, request: &Request) -> Answer {
    vpc.handle(now_ms, request).answer.expect("an answer").expect("no refusal")
}

pub(super) fn code(vpc: &mut Vpc, now_ms: u64, request: &Request) -> (u16, String) {
    let refusal = vpc.handle(now_ms, request).answer.expect("an answer").expect_err("a refusal");
    (refusal.status, refusal.code)
}

pub(super) fn created(vpc: &mut Vpc, now_ms: u64, request: &Request) -> EntryId {
    let Answer::Created(entry) = answer(vpc, now_ms, request) else { panic!("not the answer of a creation") };
    entry
}

pub(super) fn listed(vpc: &mut Vpc, now_ms: u64) -> Vec<(EntryId, EntryStatus)> {
    let Answer::Entries(page) = answer(vpc, now_ms, &list(1, 50, EntryFilter::default())) else {
        panic!("not the answer of a listing")
    };
    assert_eq!(page.items.len(), usize::try_from(page.total).unwrap());
    page.items.into_iter().map(|shown| (shown.entry.id, shown.entry.status)).collect()
}

pub(super) fn effects(vpc: &Vpc) -> Vec<Effect> {
    let effect = |line: &LedgerLine| match line {
        LedgerLine::Effect(line) => Some(line.effect.clone()),
        LedgerLine::Request(_) => None,
    };
    vpc.ledger().iter().filter_map(effect).collect()
}

pub(super) fn request_lines(vpc: &Vpc) -> Vec<&RequestLine> {
    let lines = vpc.ledger().iter();
    lines.filter_map(|line| if let LedgerLine::Request(line) = line { Some(line) } else { None }).collect()
}

#[test]
fn an_entry_lives_from_pending_to_gone() {
    let mut vpc = quiet();
    let id = created(&mut vpc, 0, &create(spec(512), "a"));
    assert_eq!(listed(&mut vpc, 499), [(id.clone(), EntryStatus::Pending)]);
    assert_eq!(code(&mut vpc, 499, &delete(&id, "b")), (400, "IncorretForwardEntryStatus".to_owned()));
    assert_eq!(vpc.next_due(), Some(500));
    assert_eq!(listed(&mut vpc, 500), [(id.clone(), EntryStatus::Available)]);
    assert_eq!(answer(&mut vpc, 600, &delete(&id, "b")), Answer::DeletionAccepted);
    assert_eq!(listed(&mut vpc, 1_099), [(id.clone(), EntryStatus::Deleting)]);
    assert_eq!(code(&mut vpc, 1_099, &delete(&id, "c")), (400, "IncorrectStatus.ForwardEntry".to_owned()));
    let again = code(&mut vpc, 1_099, &create(spec(512), "d"));
    assert_eq!(again, (400, "ForwardEntry.Duplicated".to_owned()), "its tuple is taken until it is gone");
    assert_eq!(listed(&mut vpc, 1_100), []);
    assert_eq!(code(&mut vpc, 1_100, &delete(&id, "c")), (404, "InvalidForwardEntryId.NotFound".to_owned()));
    assert_eq!(effects(&vpc), [Effect::Created, Effect::Available, Effect::Deleting, Effect::Gone]);
    assert_ne!(created(&mut vpc, 1_100, &create(spec(512), "e")), id);
}

#[test]
fn each_rule_of_creation_has_its_code() {
    let mut vpc = quiet();
    created(&mut vpc, 0, &create(spec(600), "first"));
    vpc.eip_mut(Ipv4Addr::new(203, 0, 113, 2)).unwrap().snat = true;
    vpc.eip_mut(Ipv4Addr::new(203, 0, 113, 3)).unwrap().status = EipStatus::Associating;
    let cases: Vec<(&str, u16, NewEntry)> = vec![
        ("ForwardEntry.Duplicated", 400, spec(600)),
        ("DuplicatedParam.ExternalPort", 400, NewEntry { internal_port: Ports::One(1), ..spec(600) }),
        ("DuplicatedParam.InternalPort", 400, NewEntry { external_port: Ports::One(1), ..spec(600) }),
        ("InvalidForwardTableId.NotFound", 404, NewEntry { table: "ftb-none".into(), ..spec(1) }),
        ("InvalidIp.NotInNatgw", 400, NewEntry { table: OTHER_TABLE.into(), ..spec(1) }),
        ("InvalidExternalIp.NotFound", 404, NewEntry { external_ip: Ipv4Addr::LOCALHOST, ..spec(1) }),
        ("OperationUnsupported.EipInBinding", 400, NewEntry { external_ip: [203, 0, 113, 3].into(), ..spec(1) }),
        ("Forbidden.ExternalIp.UsedInSnatTable", 400, NewEntry { external_ip: [203, 0, 113, 2].into(), ..spec(1025) }),
        ("Forbidden.DestnationIpOutOfVpcCIDR", 400, NewEntry { internal_ip: [10, 0, 0, 1].into(), ..spec(1) }),
        ("InvalidParameter.Name.Malformed", 400, NewEntry { name: "1st".to_owned(), ..spec(1) }),
        ("OperationFailed.AnyPortConfig", 400, NewEntry { external_port: Ports::Any, ..spec(1) }),
        ("InvalidInternalPort.Malformed", 400, NewEntry { external_port: Ports::Range(5, 9), ..spec(1) }),
        ("InvalidExternalPort.Malformed", 400, NewEntry { external_port: Ports::One(0), ..spec(1) }),
    ];
    for (n, (expected, status, entry)) in cases.into_iter().enumerate() {
        let got = code(&mut vpc, 0, &create(entry, &format!("case-{n}")));
        assert_eq!(got, (status, expected.to_owned()));
    }
    let port_break = NewEntry { external_ip: [203, 0, 113, 2].into(), port_break: true, ..spec(1025) };
    created(&mut vpc, 0, &create(port_break, "port-break"));
    let udp = NewEntry { protocol: IpProtocol::Udp, ..spec(600) };
    created(&mut vpc, 0, &create(udp, "the other protocol"));
    assert_eq!(vpc.entries(&TABLE.into()).count(), 3, "what was refused had no effect");
}

#[test]
fn uniqueness_holds_across_the_gateways_of_the_vpc() {
    let mut vpc = quiet();
    created(&mut vpc, 0, &create(spec(600), "a"));
    let other = NewEntry { table: OTHER_TABLE.into(), external_ip: [203, 0, 113, 4].into(), ..spec(600) };
    assert_eq!(code(&mut vpc, 0, &create(other, "b")).1, "DuplicatedParam.InternalPort");
}

#[test]
fn an_any_entry_and_port_mappings_exclude_each_other() {
    let mut vpc = quiet();
    let any = NewEntry { external_port: Ports::Any, internal_port: Ports::Any, protocol: IpProtocol::Any, ..spec(1) };
    let first = vpc.insert_entry(0, spec(700)).unwrap();
    assert_eq!(code(&mut vpc, 0, &create(any.clone(), "a")).1, "DuplicatedParam.ExternalPort");
    vpc.remove_entry(0, &first).unwrap();
    created(&mut vpc, 0, &create(any, "b"));
    assert_eq!(code(&mut vpc, 0, &create(spec(701), "c")).1, "DuplicatedParam.ExternalPort");
    let elsewhere = NewEntry { external_ip: [203, 0, 113, 2].into(), ..spec(701) };
    assert_eq!(code(&mut vpc, 0, &create(elsewhere, "d")).1, "DuplicatedParam.InternalPort");
}

#[test]
fn the_quota_counts_a_table_with_what_is_being_deleted() {
    let behaviour = Behaviour { entry_quota: 2, ..Behaviour::default() };
    let mut vpc = Vpc::new(World::default(), behaviour, Faults::none(), 1);
    let first = created(&mut vpc, 0, &create(spec(1), "a"));
    created(&mut vpc, 0, &create(spec(2), "b"));
    let full = vpc.handle(0, &create(spec(3), "c")).answer.unwrap().unwrap_err();
    assert_eq!(full.code, "QuotaExceeded.ForwardEntry");
    assert_eq!(full.message, "The quota of natgw_quota_dnat_entry_num is exceeded, usage 2/2.");
    answer(&mut vpc, 500, &delete(&first, "d"));
    assert_eq!(code(&mut vpc, 999, &create(spec(3), "c")).1, "QuotaExceeded.ForwardEntry");
    created(&mut vpc, 1_000, &create(spec(3), "c"));
}

#[test]
fn a_token_brings_back_the_first_answer_until_it_is_forgotten() {
    let mut vpc = quiet();
    let first = created(&mut vpc, 0, &create(spec(1), "t"));
    assert_eq!(created(&mut vpc, 1, &create(spec(1), "t")), first);
    assert_eq!(code(&mut vpc, 2, &create(spec(2), "t")), (400, "IdempotentParameterMismatch".to_owned()));
    let named = NewEntry { name: "other".to_owned(), ..spec(1) };
    assert_eq!(code(&mut vpc, 2, &create(named, "t")).1, "IdempotentParameterMismatch");
    assert_eq!(code(&mut vpc, 600, &delete(&first, "t")).1, "IdempotentParameterMismatch");
    answer(&mut vpc, 600, &delete(&first, "u"));
    assert_eq!(answer(&mut vpc, 2_000, &delete(&first, "u")), Answer::DeletionAccepted, "a repeat of the deletion");
    assert_eq!(created(&mut vpc, 2_000, &create(spec(1), "t")), first, "although the entry is gone");
    assert_eq!(vpc.entries(&TABLE.into()).count(), 0);
    let forgotten = Behaviour::default().token_lifetime_ms;
    assert_ne!(created(&mut vpc, forgotten, &create(spec(1), "t")), first);
    let repeated = request_lines(&vpc).into_iter().filter(|line| matches!(line.outcome, Outcome::Repeated { .. }));
    assert_eq!(repeated.count(), 3);
}

#[test]
fn bad_tokens_are_refused_and_a_refusal_is_not_remembered() {
    let mut vpc = quiet();
    for bad in ["", &"x".repeat(65), "tökén"] {
        assert_eq!(code(&mut vpc, 0, &create(spec(1), bad)).1, "InvalidParameter", "{bad:?}");
    }
    let holder = vpc.insert_entry(0, spec(1)).unwrap();
    assert_eq!(code(&mut vpc, 0, &create(spec(1), "t")).1, "ForwardEntry.Duplicated");
    vpc.remove_entry(0, &holder).unwrap();
    created(&mut vpc, 0, &create(spec(1), "t"));
}

#[test]
fn a_dry_run_checks_and_changes_nothing() {
    let mut vpc = quiet();
    let dry = Request::CreateForwardEntry { entry: spec(1), token: None, dry_run: true };
    assert_eq!(code(&mut vpc, 0, &dry), (400, "DryRunOperation".to_owned()));
    assert_eq!(vpc.entries(&TABLE.into()).count(), 0);
}

#[test]
fn who_blocks_whom_can_be_turned_on() {
    let serial = Behaviour { table_serialised: true, create_conflict_ms: 100, ..Behaviour::default() };
    let mut vpc = Vpc::new(World::default(), serial, Faults::none(), 1);
    let first = created(&mut vpc, 0, &create(spec(1), "a"));
    assert_eq!(code(&mut vpc, 1, &create(spec(2), "b")), (400, "IncorretForwardEntryStatus".to_owned()));
    vpc.behaviour_mut().table_serialised = false;
    assert_eq!(code(&mut vpc, 1, &create(spec(2), "b")), (409, "OperationConflict".to_owned()));
    created(&mut vpc, 450, &create(spec(2), "b"));
    assert_eq!(code(&mut vpc, 500, &delete(&first, "c")).1, "IncorretForwardEntryStatus", "another is Pending");
    vpc.behaviour_mut().delete_blocked_by_pending = false;
    answer(&mut vpc, 500, &delete(&first, "c"));
}

#[test]
fn a_gateway_that_is_not_available_refuses_changes() {
    let mut vpc = quiet();
    let id = vpc.insert_entry(0, spec(1)).unwrap();
    assert!(vpc.set_gateway_status(&"ngw-sandbox-j".into(), GatewayStatus::Modifying));
    assert_eq!(code(&mut vpc, 0, &create(spec(2), "a")).1, "IncorrectStatus.NATGW");
    assert_eq!(code(&mut vpc, 0, &delete(&id, "b")).1, "IncorrectStatus.NATGW");
    assert!(vpc.remove_gateway(0, &"ngw-sandbox-j".into()));
    assert_eq!(code(&mut vpc, 0, &delete(&id, "b")).1, "InvalidForwardTableId.NotFound");
    assert_eq!(code(&mut vpc, 0, &list(1, 10, EntryFilter::default())).1, "InvalidForwardTableId.NotFound");
}

#[test]
fn pages_cut_the_listing_and_say_its_length() {
    let mut vpc = quiet();
    for port in 1..=25 {
        created(&mut vpc, 0, &create(spec(port), &format!("t{port}")));
    }
    let mut ports = Vec::new();
    for number in 1..=4 {
        let Answer::Entries(page) = answer(&mut vpc, 0, &list(number, 10, EntryFilter::default())) else { panic!() };
        assert_eq!((page.total, page.page.number), (25, number));
        ports.extend(page.items.into_iter().map(|shown| shown.entry.spec.external_port));
    }
    assert_eq!(ports, (1..=25).map(Ports::One).collect::<Vec<_>>());
    for (number, size) in [(0, 10), (1, 0), (1, 51)] {
        assert_eq!(code(&mut vpc, 0, &list(number, size, EntryFilter::default())).1, "InvalidParameter");
    }
    let filter = EntryFilter { external_port: Some(Ports::One(7)), ..EntryFilter::default() };
    let Answer::Entries(page) = answer(&mut vpc, 0, &list(1, 10, filter)) else { panic!() };
    assert_eq!((page.total, page.items.len()), (1, 1));
    let filter = EntryFilter { id: Some("fwd-none".into()), ..EntryFilter::default() };
    let Answer::Entries(page) = answer(&mut vpc, 0, &list(1, 10, filter)) else { panic!() };
    assert_eq!(page.total, 0, "an unknown id is an empty listing, no error");
    let unnamed = Request::DescribeForwardTableEntries {
        table: None,
        gateway: None,
        filter: EntryFilter::default(),
        page: PageSpec::default(),
    };
    assert_eq!(code(&mut vpc, 0, &unnamed).1, "DESCRIBE_FORWARD_PARAM_INVALID");
}

#[test]
fn a_lost_reply_leaves_its_effect() {
    let mut vpc = with_fault(FaultKind::LostReply);
    assert_eq!(vpc.handle(0, &create(spec(1), "t")).answer, None);
    assert_eq!(vpc.entries(&TABLE.into()).count(), 1);
    vpc.faults_mut().stop();
    let only = vpc.entries(&TABLE.into()).next().unwrap().id.clone();
    assert_eq!(created(&mut vpc, 1, &create(spec(1), "t")), only);
    assert_eq!(vpc.faults().fired(FaultKind::LostReply), 1);
}

#[test]
fn a_lost_request_has_none() {
    let mut vpc = with_fault(FaultKind::LostRequest);
    assert_eq!(vpc.handle(0, &create(spec(1), "t")).answer, None);
    assert_eq!(vpc.next_due(), None);
    assert_eq!(request_lines(&vpc)[0].outcome, Outcome::Lost);
}

#[test]
fn a_late_creation_lands_within_a_quarter_of_an_hour() {
    let mut vpc = with_fault(FaultKind::LateEffect);
    let horizon = vpc.behaviour().late_effect_max_ms;
    for port in 1..=90 {
        assert_eq!(vpc.handle(0, &create(spec(port), &format!("t{port}"))).answer, None);
    }
    assert_eq!(vpc.entries(&TABLE.into()).count(), 0);
    vpc.advance(horizon);
    assert_eq!(vpc.entries(&TABLE.into()).count(), 90);
}

#[test]
fn a_late_creation_whose_tuple_is_taken_is_refused_silently() {
    let mut vpc = with_fault(FaultKind::LateEffect);
    vpc.handle(0, &create(spec(1), "late"));
    let other = NewEntry { internal_port: Ports::One(9), ..spec(1) };
    let winner = vpc.insert_entry(0, other).unwrap();
    vpc.advance(vpc.behaviour().late_effect_max_ms);
    let code = "DuplicatedParam.ExternalPort".to_owned();
    assert_eq!(effects(&vpc), [Effect::InsertedByHand, Effect::LateRefused { code }]);
    assert_eq!(vpc.entries(&TABLE.into()).map(|entry| &entry.id).collect::<Vec<_>>(), [&winner]);
}

#[test]
fn a_repeat_of_a_late_creation_never_makes_a_second_entry() {
    let mut heard_processing = false;
    let mut landed_after = false;
    for seed in 0..200 {
        let faults = Faults::none().with(FaultKind::LateEffect, 1.0);
        let mut vpc = Vpc::new(World::default(), Behaviour::default(), faults, seed);
        vpc.handle(0, &create(spec(1), "t"));
        vpc.faults_mut().stop();
        match vpc.handle(1, &create(spec(1), "t")).answer.unwrap() {
            Ok(_) => {}
            Err(refusal) => {
                assert_eq!(refusal.code, "LastTokenProcessing");
                heard_processing = true;
            }
        }
        vpc.advance(vpc.behaviour().late_effect_max_ms);
        assert_eq!(vpc.entries(&TABLE.into()).count(), 1, "seed {seed}");
        landed_after |= effects(&vpc).contains(&Effect::LateRepeated);
    }
    assert!(heard_processing && landed_after, "both ways of being late were met");
}

#[test]
fn other_faults_refuse_with_their_codes() {
    let mut vpc = with_fault(FaultKind::Throttling);
    assert_eq!(code(&mut vpc, 0, &create(spec(1), "t")), (400, "Throttling.User".to_owned()));
    let mut vpc = with_fault(FaultKind::Conflict);
    let mut conflicts: Vec<_> = (0..40).map(|n| code(&mut vpc, 0, &create(spec(1), &format!("{n}")))).collect();
    conflicts.sort();
    conflicts.dedup();
    assert_eq!(conflicts, [(400, "TaskConflict".to_owned()), (409, "OperationConflict".to_owned())]);
    assert!(vpc.handle(0, &list(1, 10, EntryFilter::default())).answer.unwrap().is_ok(), "reads do not conflict");
    assert_eq!(vpc.entries(&TABLE.into()).count(), 0);
    let mut vpc = with_fault(FaultKind::InternalError);
    for port in 1..=60 {
        let (status, _) = code(&mut vpc, 0, &create(spec(port), &format!("t{port}")));
        assert!(status == 500 || status == 503);
    }
    let applied = vpc.entries(&TABLE.into()).count();
    assert!(applied > 0 && applied < 60, "{applied} of 60 internal errors were applied");
}

#[test]
fn a_lagging_listing_shows_the_past_exactly() {
    let behaviour = Behaviour { read_lag_ms: 1_000, read_lag_max_ms: 0, ..Behaviour::default() };
    let mut vpc = Vpc::new(World::default(), behaviour, Faults::none(), 1);
    let id = created(&mut vpc, 10_000, &create(spec(1), "a"));
    assert_eq!(listed(&mut vpc, 10_999), []);
    assert_eq!(listed(&mut vpc, 11_000), [(id.clone(), EntryStatus::Pending)]);
    assert_eq!(listed(&mut vpc, 11_500), [(id.clone(), EntryStatus::Available)]);
    answer(&mut vpc, 12_000, &delete(&id, "b"));
    assert_eq!(listed(&mut vpc, 12_999), [(id.clone(), EntryStatus::Available)]);
    assert_eq!(listed(&mut vpc, 13_499), [(id, EntryStatus::Deleting)], "gone since 12,500");
    assert_eq!(listed(&mut vpc, 13_500), []);
}

#[test]
fn edits_by_hand_keep_the_rules() {
    let mut vpc = quiet();
    let one = vpc.insert_entry(0, spec(1)).unwrap();
    let two = vpc.insert_entry(0, spec(2)).unwrap();
    assert_eq!(vpc.edit_entry(0, &two, spec(1)).unwrap_err().code, "ForwardEntry.Duplicated");
    vpc.edit_entry(0, &two, NewEntry { name: "people".to_owned(), ..spec(3) }).unwrap();
    assert_eq!(vpc.entry(&two).unwrap().spec.name, "people");
    assert!(vpc.insert_entry(0, spec(2)).is_ok(), "the old tuple is free");
    assert_eq!(vpc.remove_eip([203, 0, 113, 1].into()).unwrap_err().code, "InvalidIpStatus.HasBeenUsedByForwardEntry");
    vpc.remove_eip([203, 0, 113, 2].into()).unwrap();
    let unbound = NewEntry { external_ip: [203, 0, 113, 2].into(), ..spec(9) };
    assert_eq!(vpc.insert_entry(0, unbound).unwrap_err().code, "InvalidIp.NotInNatgw");
    assert!(!vpc.add_eip(&"ngw-sandbox-j".into(), [203, 0, 113, 2].into()), "it is the account's already");
    assert!(vpc.add_eip(&"ngw-sandbox-j".into(), [203, 0, 113, 99].into()));
    let bound = NewEntry { external_ip: [203, 0, 113, 99].into(), ..spec(9) };
    assert!(vpc.insert_entry(0, bound).is_ok());
    assert_eq!(vpc.entry(&one).unwrap().spec, spec(1));
}

#[test]
fn one_seed_gives_one_history_and_a_saved_model_goes_on_with_it() {
    let noisy = || FaultKind::ALL.into_iter().fold(Faults::none(), |faults, kind| faults.with(kind, 0.1));
    let page = PageSpec::default();
    let gateways =
        Request::DescribeNatGateways { vpc: None, gateway: None, zone: None, page, more: Filters::default() };
    let drive = |mut vpc: Vpc, from: u16, save: bool| {
        for port in from..from + 150 {
            let now_ms = u64::from(port) * 100;
            vpc.handle(now_ms, &create(spec(port), &format!("t{port}")));
            let oldest = vpc.entries(&TABLE.into()).next().map(|entry| entry.id.clone());
            if let Some(oldest) = oldest {
                vpc.handle(now_ms, &delete(&oldest, &format!("d{port}")));
            }
            vpc.handle(now_ms, &list(1, 50, EntryFilter::default()));
            vpc.handle(now_ms, &list(2, 5, EntryFilter::default()));
            vpc.handle(now_ms, &gateways);
            if save && port % 10 == 0 {
                let ledger = vpc.take_ledger();
                vpc = serde_json::from_str(&serde_json::to_string(&vpc).unwrap()).unwrap();
                vpc.ledger = ledger;
            }
        }
        vpc
    };
    let new = |seed| Vpc::new(World::default(), Behaviour::default(), noisy(), seed);
    let (first, second) = (drive(new(7), 1, false), drive(new(7), 1, true));
    assert_eq!(first.ledger(), second.ledger());
    assert_eq!(FaultKind::ALL.into_iter().find(|kind| first.faults().fired(*kind) == 0), None);
    assert_ne!(first.ledger(), drive(new(8), 1, false).ledger());
}

#[test]
fn the_last_page_of_a_long_table_is_whole() {
    let behaviour = Behaviour { entry_quota: u32::MAX, ..Behaviour::default() };
    let mut vpc = Vpc::new(World::default(), behaviour, Faults::none(), 1);
    for n in 0..30_000_u32 {
        let [_, _, high, low] = n.to_be_bytes();
        let entry = NewEntry { internal_ip: [172, 16, high, low].into(), internal_port: Ports::One(80), ..spec(1) };
        let entry = NewEntry { external_port: Ports::One(u16::try_from(n + 1).unwrap()), ..entry };
        created(&mut vpc, u64::from(n), &create(entry, &format!("t{n}")));
    }
    let Answer::Entries(page) = answer(&mut vpc, 40_000, &list(600, 50, EntryFilter::default())) else { panic!() };
    assert_eq!((page.total, page.items.len()), (30_000, 50));
}

pub(super) fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

pub(super) fn finish<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = poll_once(future.as_mut()) {
            return output;
        }
    }
}

pub(super) fn port() -> (SimulatedCloud, Rc<RefCell<Vpc>>, Rc<Cell<u64>>) {
    let (vpc, now_ms) = (Rc::new(RefCell::new(quiet())), Rc::new(Cell::new(0)));
    (SimulatedCloud::new(Rc::clone(&vpc), Rc::clone(&now_ms)), vpc, now_ms)
}

pub(super) fn creation(port: u16) -> CreateEntry {
    CreateEntry {
        table: TABLE.into(),
        tuple: tuple(port),
        name: "natgw".to_owned(),
        token: format!("t{port}"),
        port_break: false,
    }
}

#[test]
fn a_call_acts_at_its_first_poll_and_answers_at_its_second() {
    let (cloud, vpc, _) = port();
    let request = creation(512);
    drop(cloud.create_entry(&request));
    assert_eq!(vpc.borrow().entries(&TABLE.into()).count(), 0, "dropped before its first poll");
    {
        let mut call = pin!(cloud.create_entry(&request));
        assert!(poll_once(call.as_mut()).is_pending());
        assert_eq!(vpc.borrow().entries(&TABLE.into()).count(), 1);
    }
    let entry = finish(cloud.create_entry(&request)).unwrap();
    assert_eq!(vpc.borrow().entries(&TABLE.into()).map(|entry| &entry.id).collect::<Vec<_>>(), [&entry]);
}

#[test]
fn the_port_tells_what_the_model_knows() {
    let (cloud, vpc, now_ms) = port();
    let entry = finish(cloud.create_entry(&creation(512))).unwrap();
    now_ms.set(500);
    let page = finish(cloud.list_entries(&TABLE.into(), 1)).unwrap();
    assert_eq!((page.total, page.items[0].tuple()), (1, Some(tuple(512))));
    assert_eq!(page.items[0].status, crate::ports::cloud::EntryStatus::Available);
    let pod = Ipv4Addr::new(172, 17, 3, 4);
    let found = finish(cloud.list_interfaces(&[pod], None)).unwrap();
    assert!(found.items[0].addresses.contains(&pod));
    let tables = finish(cloud.list_route_tables(1)).unwrap();
    let table = tables.items.iter().find(|table| table.vswitches.contains(&found.items[0].vswitch)).unwrap();
    let gateways = finish(cloud.list_default_routes(&table.id, None)).unwrap().items;
    let listed = finish(cloud.list_gateways(1)).unwrap();
    let gateway = listed.items.iter().find(|gateway| gateway.id == gateways[0]).unwrap();
    assert_eq!(gateway.table, Some(OTHER_TABLE.into()));
    vpc.borrow_mut().eip_mut(Ipv4Addr::new(203, 0, 113, 5)).unwrap().locked = true;
    let eips = finish(cloud.list_eips(&gateway.id, 1)).unwrap();
    assert_eq!(eips.items.iter().map(|eip| eip.usable).collect::<Vec<_>>(), [true, false, true]);
    let deletion = DeleteEntry { table: TABLE.into(), entry, token: "d".to_owned() };
    finish(cloud.delete_entry(&deletion)).unwrap();
    now_ms.set(1_000);
    let again = DeleteEntry { token: "e".to_owned(), ..deletion };
    assert_eq!(finish(cloud.delete_entry(&again)).unwrap_err().class, ErrorClass::Gone);
}

#[test]
fn a_reply_that_never_arrives_is_unknown() {
    let (cloud, vpc, _) = port();
    vpc.borrow_mut().faults_mut().set(FaultKind::LostReply, 1.0);
    let error = finish(cloud.create_entry(&creation(512))).unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Unknown, "timeout"));
}

#[test]
fn a_hidden_address_belongs_to_no_interface() {
    let (cloud, vpc, _) = port();
    let pod = Ipv4Addr::new(172, 16, 0, 20);
    vpc.borrow_mut().hide_address(pod, true);
    assert_eq!(finish(cloud.list_interfaces(&[pod], None)).unwrap().items, []);
    vpc.borrow_mut().hide_address(pod, false);
    assert_eq!(finish(cloud.list_interfaces(&[pod], None)).unwrap().items.len(), 1);
}

#[test]
fn interfaces_are_listed_in_parts() {
    let mut vpc = quiet();
    let mut next = None;
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let request = Request::DescribeNetworkInterfaces {
            vpc: None,
            vswitch: Some("vsw-sandbox-j".into()),
            addresses: Vec::new(),
            interfaces: Vec::new(),
            part: PartSpec { max: Some(500), next: next.take() },
            more: Filters::default(),
        };
        let Answer::Interfaces(part) = answer(&mut vpc, 0, &request) else { panic!() };
        seen.extend(part.items.into_iter().map(|interface| interface.id));
        match part.next {
            Some(token) => next = Some(token),
            None => break,
        }
    }
    assert_eq!(seen.len(), 4_096);
}
