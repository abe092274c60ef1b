use super::*;

/// When a whole survey is due in these tests.
const DUE_MS: u64 = 1_000;

fn gateway(id: &str) -> ListedGateway {
    ListedGateway { id: id.into(), table: None, zone: None, available: true, snat: Vec::new() }
}

fn eip(last: u8) -> ListedEip {
    ListedEip { address: [203, 0, 113, last].into(), usable: true }
}

fn table(id: &str, system: bool, vswitches: &[&str]) -> ListedRouteTable {
    ListedRouteTable { id: id.into(), system, vswitches: vswitches.iter().map(|id| (*id).into()).collect() }
}

/// A VPC of two configured gateways, one other, and two route tables; and what was asked of it.
#[derive(Default)]
struct Vpc {
    survey: Survey,
    asked: Vec<Part>,
}

impl Vpc {
    /// Begins whatever is due.
    fn begin(&mut self, now_ms: u64) -> Vec<Part> {
        let due = self.survey.parts(DUE_MS).into_iter().filter(|(_, due_ms)| *due_ms <= now_ms);
        let due: Vec<Part> = due.map(|(part, _)| part).collect();
        for part in &due {
            self.survey.begin(part, now_ms, now_ms >= DUE_MS, || vec!["vsw-new".into()]);
            self.asked.push(part.clone());
        }
        due
    }

    fn answer(&mut self, part: &Part) {
        let listing = match part {
            Part::Gateways => Listing::Gateways(["ngw-a", "ngw-b", "ngw-other"].map(gateway).into()),
            Part::Eips(gateway) if gateway.as_str() == "ngw-a" => Listing::Eips(vec![eip(1), eip(2)]),
            Part::Eips(_) => Listing::Eips(vec![eip(3)]),
            Part::RouteTables => {
                Listing::RouteTables(vec![table("vtb-s", true, &["vsw-1"]), table("vtb-c", false, &["vsw-2"])])
            }
            Part::Routes(table) if table == "vtb-s" => Listing::Routes(vec!["ngw-a".into()]),
            Part::Routes(_) => Listing::Routes(vec!["ngw-b".into()]),
        };
        assert!(self.survey.read(part, listing, &["ngw-b".into(), "ngw-a".into(), "ngw-gone".into()]));
    }

    /// Answers all that is due until nothing is.
    fn go_on(&mut self, now_ms: u64) {
        loop {
            let parts = self.begin(now_ms);
            if parts.is_empty() {
                return;
            }
            parts.iter().for_each(|part| self.answer(part));
        }
    }
}

fn expected_routes() -> Routes {
    let hops = |id: &str| vec![GatewayId::from(id)];
    vec![("vsw-1".into(), hops("ngw-a")), ("vsw-new".into(), hops("ngw-a")), ("vsw-2".into(), hops("ngw-b"))]
}

fn eips(gateway: &str) -> Part {
    Part::Eips(gateway.into())
}

fn routes_of(table: &str) -> Part {
    Part::Routes(table.into())
}

#[test]
fn a_survey_is_handed_over_when_all_of_its_parts_are_there() {
    let mut vpc = Vpc::default();
    assert_eq!(vpc.begin(DUE_MS - 1), [], "it is not due yet");
    assert_eq!(vpc.begin(DUE_MS), [Part::Gateways, Part::RouteTables]);
    vpc.answer(&Part::RouteTables);
    vpc.answer(&Part::Gateways);
    assert!(vpc.survey.take().is_none());
    let rest = vpc.begin(DUE_MS + 50);
    assert_eq!(rest, [eips("ngw-b"), eips("ngw-a"), routes_of("vtb-c"), routes_of("vtb-s")]);
    for part in &rest {
        assert!(vpc.survey.take().is_none(), "{part:?} lacks");
        vpc.answer(part);
    }
    let (gateways, routes) = vpc.survey.take().expect("all is there");
    let (gateways, eips, began_ms) = gateways.expect("it is a whole one");
    assert_eq!((gateways.len(), began_ms), (3, DUE_MS), "it is as old as its beginning");
    assert_eq!(eips, [("ngw-b".into(), vec![eip(3)]), ("ngw-a".into(), vec![eip(1), eip(2)])], "as configured");
    assert_eq!(routes, expected_routes());
    assert!(vpc.survey.take().is_none(), "once");
    assert_eq!(vpc.begin(DUE_MS - 1), [], "and it begins anew when the next one is due");
}

#[test]
fn a_part_that_fails_is_read_again_alone_and_not_before_its_time() {
    let mut vpc = Vpc::default();
    for part in vpc.begin(DUE_MS) {
        vpc.answer(&part);
    }
    for part in vpc.begin(DUE_MS) {
        if part == eips("ngw-a") {
            vpc.survey.failed(&part, DUE_MS + 7_000, true);
        } else {
            vpc.answer(&part);
        }
    }
    assert!(vpc.survey.take().is_none());
    assert_eq!(vpc.survey.parts(DUE_MS), [(eips("ngw-a"), DUE_MS + 7_000)]);
    assert_eq!(vpc.begin(DUE_MS + 6_999), []);
    vpc.go_on(DUE_MS + 7_000);
    let (gateways, routes) = vpc.survey.take().expect("all is there");
    assert_eq!((gateways.map(|(_, eips, _)| eips.len()), routes), (Some(2), expected_routes()));
    let again = vpc.asked.iter().filter(|part| **part == eips("ngw-a")).count();
    assert_eq!((again, vpc.asked.len()), (2, 7), "nothing else was asked twice: {:?}", vpc.asked);
}

#[test]
fn what_named_a_part_that_keeps_failing_is_read_again() {
    let mut vpc = Vpc::default();
    for part in vpc.begin(DUE_MS) {
        vpc.answer(&part);
    }
    for part in vpc.begin(DUE_MS) {
        if part != routes_of("vtb-c") {
            vpc.answer(&part);
        } else {
            vpc.survey.failed(&part, 0, true);
        }
    }
    for failure in 1..=10 {
        assert_eq!(vpc.begin(DUE_MS), [routes_of("vtb-c")], "flow control says nothing of the table: {failure}");
        vpc.survey.failed(&routes_of("vtb-c"), 0, true);
    }
    for _ in 0..FAILURES_MAX {
        assert_eq!(vpc.begin(DUE_MS), [routes_of("vtb-c")]);
        vpc.survey.failed(&routes_of("vtb-c"), 0, false);
    }
    assert_eq!(vpc.begin(DUE_MS), [Part::RouteTables]);
    let listing = Listing::RouteTables(vec![table("vtb-s", true, &["vsw-1"])]);
    assert!(vpc.survey.read(&Part::RouteTables, listing, &[]), "it is gone");
    let (_, routes) = vpc.survey.take().expect("all is there, and what was read is kept");
    assert_eq!(routes.len(), 2, "{routes:?}");
}

#[test]
fn a_vswitch_that_was_met_costs_route_tables_and_routes_and_no_more() {
    let mut vpc = Vpc::default();
    vpc.survey.ask_for_routes();
    vpc.go_on(0);
    let (gateways, routes) = vpc.survey.take().expect("all is there");
    assert_eq!((gateways, routes), (None, expected_routes()));
    assert_eq!(vpc.asked, [Part::RouteTables, routes_of("vtb-c"), routes_of("vtb-s")]);
    // Asked while they are being read: what is being read may not show it.
    vpc.asked.clear();
    vpc.survey.ask_for_routes();
    assert_eq!(vpc.begin(0), [Part::RouteTables]);
    vpc.survey.ask_for_routes();
    vpc.answer(&Part::RouteTables);
    vpc.go_on(0);
    assert!(vpc.survey.take().is_some_and(|(gateways, _)| gateways.is_none()));
    vpc.go_on(0);
    assert!(vpc.survey.take().is_some());
    assert_eq!(vpc.asked.iter().filter(|part| **part == Part::RouteTables).count(), 2);
    vpc.go_on(0);
    assert!(vpc.survey.take().is_none());
}

#[test]
fn a_round_of_routes_becomes_a_whole_one_that_is_due_meanwhile() {
    let mut vpc = Vpc::default();
    vpc.survey.ask_for_routes();
    assert_eq!(vpc.begin(0), [Part::RouteTables]);
    vpc.answer(&Part::RouteTables);
    vpc.go_on(DUE_MS);
    let (gateways, routes) = vpc.survey.take().expect("all is there");
    assert_eq!((gateways.map(|(.., began_ms)| began_ms), routes.len()), (Some(DUE_MS), 3));
    assert_eq!(vpc.asked.len(), 6, "nothing twice: {:?}", vpc.asked);
}

#[test]
fn few_parts_are_read_at_once_and_none_is_left_behind() {
    let mut survey = Survey::default();
    let begin = |survey: &mut Survey| {
        let parts = survey.parts(0);
        parts.iter().for_each(|(part, _)| survey.begin(part, 0, true, Vec::new));
        parts.into_iter().map(|(part, _)| part).collect::<Vec<_>>()
    };
    begin(&mut survey);
    let tables = (0..60).map(|n| table(&format!("vtb-{n:02}"), n == 0, &[])).collect();
    assert!(survey.read(&Part::Gateways, Listing::Gateways(Vec::new()), &[]));
    assert!(survey.read(&Part::RouteTables, Listing::RouteTables(tables), &[]));
    let mut read = 0;
    let mut under_way = begin(&mut survey);
    while let Some(part) = under_way.pop() {
        assert!(under_way.len() < PARTS_AT_ONCE, "{under_way:?}");
        assert!(survey.read(&part, Listing::Routes(Vec::new()), &[]));
        read += 1;
        under_way.extend(begin(&mut survey));
    }
    assert_eq!(read, 60);
    assert!(survey.take().is_some());
}

#[test]
fn an_answer_to_something_else_is_none() {
    let mut survey = Survey::default();
    assert!(!survey.read(&Part::Gateways, Listing::Gateways(Vec::new()), &[]), "nobody asked");
    survey.begin(&Part::Gateways, 0, true, Vec::new);
    assert!(!survey.read(&Part::Gateways, Listing::Eips(Vec::new()), &[]));
    survey.failed(&Part::Gateways, 5, false);
    assert_eq!(survey.parts(0), [(Part::RouteTables, 0), (Part::Gateways, 5)]);
}
