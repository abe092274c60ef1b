use std::cell::RefCell;

use super::*;
use crate::ports::cloud::{Cloud as _, EntryStatus as Listed, ErrorClass};
use crate::sandbox::vpc::tests::*;
use crate::sandbox::vpc::{
    Behaviour, Effect, EipStatus, EntryFilter, EntryStatus, Faults, GatewayStatus, NewEntry, Ports, Spell, World,
};

fn filter() -> EntryFilter {
    EntryFilter::default()
}

/// The external ports of one page, and its TotalCount.
fn page(vpc: &mut Vpc, now_ms: u64, number: u32, size: u32) -> (Vec<u16>, u32) {
    let Answer::Entries(page) = answer(vpc, now_ms, &list(number, size, filter())) else { panic!("no listing") };
    let ports = page.items.iter().map(|shown| shown.entry.spec.external_port.ends().0).collect();
    (ports, page.total)
}

#[test]
fn a_forgotten_token_lets_the_same_request_be_done_again() {
    let mut vpc = quiet();
    let first = created(&mut vpc, 0, &create(spec(1), "t"));
    vpc.faults_mut().set(FaultKind::ForgottenToken, 1.0);
    assert_eq!(code(&mut vpc, 600, &create(spec(1), "t")).1, "ForwardEntry.Duplicated", "the tuple still holds it off");
    vpc.remove_entry(600, &first).unwrap();
    assert_eq!(vpc.happened(Incident::SecondExecution), 0);
    let second = created(&mut vpc, 700, &create(spec(1), "t"));
    vpc.remove_entry(800, &second).unwrap();
    vpc.faults_mut().stop();
    let third = created(&mut vpc, 900, &create(spec(1), "t"));
    assert!(first != second && second != third);
    assert_eq!(vpc.happened(Incident::SecondExecution), 2);
    assert_eq!(vpc.happened(Incident::TokenForgotten), 2);
    assert_eq!(vpc.faults().fired(FaultKind::ForgottenToken), 2);
    assert_eq!(created(&mut vpc, 1_000, &create(spec(1), "t")), third, "remembered again");
    assert_eq!(vpc.happened(Incident::TokenRepeated), 1);
}

#[test]
fn a_token_that_grew_old_is_counted_too() {
    let mut vpc = quiet();
    let first = created(&mut vpc, 0, &create(spec(1), "t"));
    vpc.remove_entry(1, &first).unwrap();
    let lifetime_ms = vpc.behaviour().token_lifetime_ms;
    created(&mut vpc, lifetime_ms, &create(spec(1), "t"));
    assert_eq!((vpc.happened(Incident::TokenForgotten), vpc.happened(Incident::SecondExecution)), (1, 1));
}

#[test]
fn a_request_that_still_runs_says_so_to_its_repeats() {
    let mut vpc = with_fault(FaultKind::StillRunning);
    assert_eq!(vpc.handle(0, &create(spec(1), "t")).answer, None);
    vpc.faults_mut().stop();
    assert_eq!(code(&mut vpc, 0, &create(spec(1), "t")).1, "LastTokenProcessing");
    assert_eq!(vpc.happened(Incident::TokenProcessing), 1);
    vpc.advance(10_000);
    let only = vpc.entries(&TABLE.into()).next().unwrap().id.clone();
    assert_eq!(created(&mut vpc, 10_000, &create(spec(1), "t")), only);
    assert_eq!(vpc.happened(Incident::LateLanded), 1);
}

#[test]
fn late_landings_are_told_apart() {
    let mut vpc = with_fault(FaultKind::LateEffect);
    for port in 1..=60 {
        vpc.handle(0, &create(spec(port), &format!("t{port}")));
    }
    vpc.faults_mut().stop();
    for port in 1..=20 {
        vpc.handle(0, &create(spec(port), &format!("t{port}")));
    }
    for port in 21..=40 {
        vpc.insert_entry(0, NewEntry { internal_port: Ports::One(9_000 + port), ..spec(port) }).unwrap();
    }
    vpc.advance(vpc.behaviour().late_effect_max_ms);
    assert!(vpc.happened(Incident::LateRepeated) > 0);
    assert_eq!(vpc.happened(Incident::LateRefused), 20);
    let all = [Incident::LateLanded, Incident::LateRepeated, Incident::LateRefused];
    assert_eq!(all.map(|incident| vpc.happened(incident)).iter().sum::<u64>(), 60);
    assert_eq!(vpc.entries(&TABLE.into()).count(), 60);
}

#[test]
fn a_mismatch_may_be_said_of_equal_requests_and_changes_nothing() {
    let mut vpc = quiet();
    let first = created(&mut vpc, 0, &create(spec(1), "t"));
    vpc.faults_mut().set(FaultKind::TokenMismatch, 1.0);
    for token in ["t", "new"] {
        assert_eq!(code(&mut vpc, 600, &create(spec(1), token)), (400, "IdempotentParameterMismatch".to_owned()));
    }
    assert_eq!(code(&mut vpc, 600, &delete(&first, "d")).1, "IdempotentParameterMismatch");
    assert_eq!(listed(&mut vpc, 600), [(first, EntryStatus::Available)]);
    assert_eq!(vpc.happened(Incident::TokenMismatched), 0, "a fault is no incident");
    vpc.faults_mut().stop();
    assert_eq!(code(&mut vpc, 700, &create(spec(2), "t")).1, "IdempotentParameterMismatch");
    assert_eq!(vpc.happened(Incident::TokenMismatched), 1);
}

#[test]
fn a_long_pending_entry_becomes_available_in_its_time() {
    let mut vpc = with_fault(FaultKind::LongPending);
    for port in 1..=40 {
        created(&mut vpc, 0, &create(spec(port), &format!("t{port}")));
    }
    vpc.faults_mut().stop();
    let available = |vpc: &mut Vpc, now_ms| {
        listed(vpc, now_ms).iter().filter(|(_, status)| *status == EntryStatus::Available).count()
    };
    let soon = available(&mut vpc, 60_000);
    assert!(soon > 0 && soon < 40, "{soon} of 40 after a minute");
    let most_ms = vpc.behaviour().pending_max_ms;
    assert_eq!(available(&mut vpc, most_ms), 40);
}

#[test]
fn a_stuck_entry_stays_pending_until_it_is_lifted() {
    let mut vpc = with_fault(FaultKind::StuckPending);
    let [one, two] = [1, 2].map(|port| created(&mut vpc, 0, &create(spec(port), &format!("t{port}"))));
    vpc.faults_mut().stop();
    let three = created(&mut vpc, 0, &create(spec(3), "t3"));
    let day_ms = 24 * 3_600_000;
    let pending = |id| (id, EntryStatus::Pending);
    let expected = [pending(one.clone()), pending(two.clone()), (three.clone(), EntryStatus::Available)];
    assert_eq!(listed(&mut vpc, day_ms), expected);
    assert_eq!(code(&mut vpc, day_ms, &delete(&one, "d")).1, "IncorretForwardEntryStatus");
    assert_eq!(code(&mut vpc, day_ms, &delete(&three, "e")).1, "IncorretForwardEntryStatus");
    let counts = [Incident::DeletedWhilePending, Incident::DeleteBlocked].map(|incident| vpc.happened(incident));
    assert_eq!(counts, [1, 1]);
    vpc.lift_pending(day_ms, &one).unwrap();
    assert_eq!(vpc.entry(&one).unwrap().status, EntryStatus::Available);
    assert!(vpc.lift_pending(day_ms, &one).is_err(), "it is no longer Pending");
    vpc.calm(day_ms);
    assert_eq!(vpc.entry(&two).unwrap().status, EntryStatus::Available);
    answer(&mut vpc, day_ms, &delete(&one, "d"));
    assert_eq!(effects(&vpc).iter().filter(|effect| **effect == Effect::Available).count(), 3);
}

#[test]
fn only_what_is_pending_unusually_long_is_lifted() {
    let mut vpc = quiet();
    created(&mut vpc, 0, &create(spec(1), "t"));
    assert_eq!(vpc.lift_all_pending(10), 0);
    vpc.faults_mut().set(FaultKind::StuckPending, 1.0);
    created(&mut vpc, 10, &create(spec(2), "u"));
    assert_eq!(vpc.lift_all_pending(10), 1);
}

#[test]
fn a_patchy_view_omits_what_is_new_and_shows_what_is_gone_one_by_one() {
    let mut vpc = quiet();
    let old: Vec<_> = (1..=20).map(|port| vpc.insert_entry(0, spec(port)).unwrap()).collect();
    for gone in &old[..10] {
        vpc.remove_entry(100_000, gone).unwrap();
    }
    for port in 21..=30 {
        created(&mut vpc, 100_000, &create(spec(port), &format!("t{port}")));
    }
    assert_eq!(page(&mut vpc, 100_000, 1, 50), ((11..=30).collect(), 20));
    vpc.faults_mut().set(FaultKind::PatchyView, 1.0);
    let mut seen = [false; 4];
    for _ in 0..20 {
        let (ports, total) = page(&mut vpc, 100_001, 1, 50);
        assert_eq!(ports.len(), usize::try_from(total).unwrap(), "the count is that of the view");
        assert!((11..=20).all(|port| ports.contains(&port)), "what did not change is always there");
        let (gone, new) =
            (ports.iter().filter(|port| **port <= 10).count(), ports.iter().filter(|port| **port > 20).count());
        seen = [seen[0] | (gone > 0), seen[1] | (gone < 10), seen[2] | (new > 0), seen[3] | (new < 10)];
    }
    assert_eq!(seen, [true; 4], "gone ones shown and not, new ones omitted and not");
    assert!(vpc.happened(Incident::EntryOmitted) > 0 && vpc.happened(Incident::GoneShown) > 0);
    let long_after_ms = 100_000 + vpc.behaviour().read_lag_max_ms;
    assert_eq!(page(&mut vpc, long_after_ms, 1, 50), ((11..=30).collect(), 20));
}

#[test]
fn pages_shift_while_they_are_read() {
    let mut vpc = quiet();
    for port in 1..=20 {
        vpc.insert_entry(0, spec(port)).unwrap();
    }
    vpc.faults_mut().set(FaultKind::ShiftedPage, 1.0);
    assert_eq!(page(&mut vpc, 0, 1, 5), ((1..=5).collect(), 20), "there is no page before the first");
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let (ports, total) = page(&mut vpc, 0, 2, 5);
        assert_eq!((ports.len(), total), (5, 20));
        firsts.insert(ports[0]);
    }
    assert_eq!(firsts.into_iter().collect::<Vec<_>>(), [3, 4, 5, 7, 8, 9]);
    assert_eq!(vpc.happened(Incident::PageShifted), 100);
}

#[test]
fn an_unknown_status_is_shown_and_proves_nothing() {
    let (cloud, vpc, now_ms) = port();
    finish(cloud.create_entry(&creation(512))).unwrap();
    now_ms.set(1_000);
    vpc.borrow_mut().faults_mut().set(FaultKind::UnknownStatus, 1.0);
    let shown = vpc.borrow_mut().handle(1_000, &list(1, 10, filter())).answer.unwrap().unwrap();
    let Answer::Entries(shown) = shown else { panic!("no listing") };
    assert!(!["Pending", "Available", "Deleting"].contains(&shown.items[0].status()));
    let page = finish(cloud.list_entries(&TABLE.into(), 1)).unwrap();
    assert_eq!(page.items[0].status, Listed::Other);
    vpc.borrow_mut().faults_mut().set(FaultKind::UnknownGatewayStatus, 1.0);
    assert!(!finish(cloud.list_gateways(1)).unwrap().items[0].available);
    assert!(!finish(cloud.list_eips(&"ngw-sandbox-j".into(), 1)).unwrap().items[0].usable);
    assert_eq!(vpc.borrow().faults().fired(FaultKind::UnknownGatewayStatus), 2);
}

#[test]
fn an_unknown_error_leaves_open_whether_it_was_applied() {
    let (cloud, vpc, _) = port();
    vpc.borrow_mut().faults_mut().set(FaultKind::UnknownError, 1.0);
    for port in 1..=40 {
        let error = finish(cloud.create_entry(&creation(port))).unwrap_err();
        assert_eq!(error.class, ErrorClass::Unknown, "{error}");
    }
    let applied = vpc.borrow().entries(&TABLE.into()).count();
    assert!(applied > 0 && applied < 40, "{applied} of 40");
}

#[test]
fn a_trouble_strikes_everything_while_it_lasts_and_nothing_after() {
    let cases = [
        (Trouble::Unavailable, 503, "ServiceUnavailable", ErrorClass::Unknown),
        (Trouble::Throttled, 400, "Throttling.User", ErrorClass::Throttled { after_ms: Some(5) }),
        (Trouble::ExpiredToken, 400, "InvalidSecurityToken.Expired", ErrorClass::Denied),
        (Trouble::UnknownKey, 404, "InvalidAccessKeyId.NotFound", ErrorClass::Denied),
        (Trouble::BadSignature, 400, "SignatureDoesNotMatch", ErrorClass::Denied),
        (Trouble::ClockSkew, 400, "InvalidTimeStamp.Expired", ErrorClass::Denied),
        (Trouble::Forbidden, 403, "Forbidden.RAM", ErrorClass::Denied),
        (Trouble::Busy, 409, "OperationConflict", ErrorClass::Conflict),
    ];
    for (trouble, status, name, class) in cases {
        let (cloud, vpc, now_ms) = port();
        vpc.borrow_mut().faults_mut().trouble(Spell::of_all(trouble, 100, 200));
        finish(cloud.create_entry(&creation(1))).unwrap();
        assert_eq!(code(&mut vpc.borrow_mut(), 100, &create(spec(2), "t")), (status, name.to_owned()));
        now_ms.set(199);
        assert_eq!(finish(cloud.create_entry(&creation(3))).unwrap_err().class, class);
        assert_eq!(finish(cloud.list_gateways(1)).is_ok(), trouble == Trouble::Busy, "{name}");
        now_ms.set(200);
        finish(cloud.create_entry(&creation(2))).unwrap();
        let struck = if trouble == Trouble::Busy { 2 } else { 3 };
        assert_eq!(vpc.borrow().faults().troubled(trouble), struck, "{name}");
    }
}

#[test]
fn silence_is_lost_requests_and_can_be_lifted() {
    let mut vpc = quiet();
    vpc.faults_mut().trouble(Spell::of_all(Trouble::Silence, 0, u64::MAX));
    assert_eq!(vpc.handle(5, &create(spec(1), "t")).answer, None);
    let line = request_lines(&vpc)[0];
    assert_eq!((&line.outcome, line.trouble), (&Outcome::Lost, Some(Trouble::Silence)));
    vpc.faults_mut().lift(Trouble::Silence);
    created(&mut vpc, 6, &create(spec(1), "t"));
}

#[test]
fn a_trouble_of_one_gateway_leaves_the_others_alone() {
    let mut vpc = quiet();
    let [j, k] = ["ngw-sandbox-j", "ngw-sandbox-k"].map(GatewayId::from);
    vpc.faults_mut().trouble(Spell::of_gateway(Trouble::Unavailable, j.clone(), 0, 1_000));
    assert_eq!(code(&mut vpc, 0, &create(spec(1), "t")).0, 503);
    assert_eq!(code(&mut vpc, 0, &list(1, 10, filter())).0, 503);
    let elsewhere = NewEntry { table: OTHER_TABLE.into(), external_ip: [203, 0, 113, 4].into(), ..spec(2) };
    created(&mut vpc, 0, &create(elsewhere, "u"));
    let eips = |gateway: &GatewayId| Request::DescribeEipAddresses {
        gateway: Some(gateway.clone()),
        addresses: Vec::new(),
        allocations: Vec::new(),
        page: crate::sandbox::vpc::PageSpec::default(),
        more: crate::sandbox::vpc::Filters::default(),
    };
    assert_eq!(code(&mut vpc, 0, &eips(&j)).0, 503);
    answer(&mut vpc, 0, &eips(&k));
    created(&mut vpc, 1_000, &create(spec(1), "t"));
}

#[test]
fn refusals_by_the_rules_are_counted() {
    let behaviour =
        Behaviour { entry_quota: 2, table_serialised: true, create_conflict_ms: 600, ..Behaviour::default() };
    let mut vpc = Vpc::new(World::default(), behaviour, Faults::none(), 1);
    let first = created(&mut vpc, 0, &create(spec(1), "a"));
    code(&mut vpc, 0, &create(spec(2), "b"));
    code(&mut vpc, 550, &create(spec(2), "b"));
    created(&mut vpc, 600, &create(spec(2), "b"));
    code(&mut vpc, 1_200, &create(spec(3), "c"));
    code(&mut vpc, 1_200, &create(NewEntry { internal_port: Ports::One(9), ..spec(1) }, "d"));
    code(&mut vpc, 1_200, &create(NewEntry { external_port: Ports::One(9), ..spec(1) }, "d"));
    answer(&mut vpc, 1_200, &delete(&first, "e"));
    code(&mut vpc, 1_300, &delete(&first, "f"));
    code(&mut vpc, 9_000, &delete(&first, "f"));
    vpc.set_gateway_status(&"ngw-sandbox-j".into(), GatewayStatus::Modifying);
    code(&mut vpc, 9_000, &create(spec(3), "c"));
    for incident in [
        Incident::TableSerialised,
        Incident::CreateConflict,
        Incident::QuotaRefused,
        Incident::ExternalClash,
        Incident::InternalClash,
        Incident::DeletedTwice,
        Incident::DeletedNothing,
        Incident::GatewayRefused,
    ] {
        assert_eq!(vpc.happened(incident), 1, "{incident:?}");
    }
    let census: Vec<_> = vpc.census().filter(|(_, count)| *count > 0).collect();
    assert_eq!(census.len(), 8, "{census:?}");
    let names: std::collections::BTreeSet<_> = vpc.census().map(|(name, _)| name).collect();
    assert_eq!(names.len(), vpc.census().count(), "no name twice");
}

#[test]
fn a_gateway_vanishes_with_its_table_and_comes_back_with_its_entries() {
    let mut vpc = quiet();
    let gateway = GatewayId::from("ngw-sandbox-j");
    let id = created(&mut vpc, 0, &create(spec(1), "t"));
    assert!(vpc.hide_gateway(100, &gateway, true) && !vpc.hide_gateway(100, &gateway, true));
    assert_eq!(code(&mut vpc, 100, &list(1, 10, filter())).1, "InvalidForwardTableId.NotFound");
    assert_eq!(code(&mut vpc, 100, &delete(&id, "d")).1, "InvalidForwardTableId.NotFound");
    assert_eq!(vpc.table_of(&gateway), Some(&TABLE.into()));
    assert!(!vpc.add_eip(&"ngw-sandbox-k".into(), [203, 0, 113, 1].into()), "its EIPs are still somebody's");
    assert!(vpc.hide_gateway(1_000, &gateway, false));
    assert_eq!(vpc.world().gateways[0].id, gateway);
    assert_eq!(listed(&mut vpc, 1_000), [(id, EntryStatus::Available)], "time went on for it");
}

#[test]
fn a_gateway_may_be_made_anew_under_its_old_name() {
    let mut vpc = quiet();
    created(&mut vpc, 0, &create(spec(1), "t"));
    let gateway = vpc.world().gateways[0].clone();
    assert!(!vpc.add_gateway(gateway.clone()), "it is there");
    assert!(vpc.remove_gateway(600, &gateway.id));
    assert!(vpc.add_gateway(crate::sandbox::vpc::NatGateway { eips: Vec::new(), ..gateway.clone() }));
    assert_eq!(listed(&mut vpc, 600), []);
    vpc.bind_eip(&gateway.id, [203, 0, 113, 1].into()).unwrap();
    created(&mut vpc, 600, &create(spec(1), "u"));
}

#[test]
fn eips_move_are_released_and_carry_whole_addresses() {
    let mut vpc = quiet();
    let [first, second] = [[203, 0, 113, 1], [203, 0, 113, 2]].map(std::net::Ipv4Addr::from);
    let other = GatewayId::from("ngw-sandbox-k");
    let id = vpc.insert_entry(0, spec(1)).unwrap();
    assert_eq!(vpc.move_eip(first, &other).unwrap_err().code, "InvalidIpStatus.HasBeenUsedByForwardEntry");
    assert_eq!(vpc.move_eip(second, &"ngw-none".into()).unwrap_err().code, "Invalid.natgwNotExist");
    assert!(vpc.world().gateways[0].eips.iter().any(|eip| eip.address == second), "nothing was changed");
    vpc.move_eip(second, &other).unwrap();
    let there = NewEntry { table: OTHER_TABLE.into(), external_ip: second, ..spec(2) };
    vpc.insert_entry(0, there).unwrap();
    assert!(vpc.release_eip(5, first) && !vpc.release_eip(5, first));
    assert_eq!(vpc.entry(&id), None);
    assert_eq!(code(&mut vpc, 5, &create(spec(1), "t")).1, "InvalidExternalIp.NotFound");
    let any = NewEntry::any(TABLE.into(), [203, 0, 113, 3].into(), [172, 16, 0, 77].into(), "people");
    vpc.insert_entry(5, any).unwrap();
    let blocked = NewEntry { external_ip: [203, 0, 113, 3].into(), ..spec(9) };
    assert_eq!(code(&mut vpc, 5, &create(blocked, "u")).1, "DuplicatedParam.ExternalPort");
    let eip = vpc.eip_mut(second).unwrap();
    (eip.locked, eip.status) = (true, EipStatus::Unassociating);
    let theirs = NewEntry { table: OTHER_TABLE.into(), external_ip: second, ..spec(3) };
    assert_eq!(code(&mut vpc, 5, &create(theirs, "v")).1, "OperationUnsupported.EipInBinding");
}

#[test]
fn a_renamed_entry_keeps_what_it_maps() {
    let mut vpc = quiet();
    let id = vpc.insert_entry(0, spec(1)).unwrap();
    vpc.rename_entry(0, &id, "people").unwrap();
    assert_eq!(vpc.entry(&id).unwrap().spec, NewEntry { name: "people".to_owned(), ..spec(1) });
    assert_eq!(vpc.rename_entry(0, &id, "1").unwrap_err().code, "InvalidParameter.Name.Malformed");
}

#[test]
fn pages_of_the_port_may_be_short() {
    let (cloud, vpc, _) = port();
    for port in 1..=5 {
        vpc.borrow_mut().insert_entry(0, spec(port)).unwrap();
    }
    let cloud = cloud.paging_by(2);
    let pages = [1, 2, 3].map(|number| finish(cloud.list_entries(&TABLE.into(), number)).unwrap());
    assert_eq!(pages.map(|page| (page.items.len(), page.total)), [(2, 5), (2, 5), (1, 5)]);
}

#[test]
fn kinds_that_are_off_draw_nothing() {
    let drive = |faults: Faults| {
        let vpc = RefCell::new(Vpc::new(World::default(), Behaviour::default(), faults, 7));
        for port in 1..=60 {
            vpc.borrow_mut().handle(u64::from(port) * 100, &create(spec(port), &format!("t{port}")));
            vpc.borrow_mut().handle(u64::from(port) * 100, &list(1, 50, filter()));
        }
        vpc.into_inner().take_ledger()
    };
    let some = Faults::none().with(FaultKind::LostReply, 0.2).with(FaultKind::LateEffect, 0.2);
    let zeros = FaultKind::ALL.into_iter().fold(Faults::none(), |faults, kind| faults.with(kind, 0.0));
    let with_zeros = zeros.with(FaultKind::LostReply, 0.2).with(FaultKind::LateEffect, 0.2);
    assert_eq!(drive(some), drive(with_zeros));
}
