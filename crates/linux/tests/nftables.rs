//! nf_tables against the kernel, in network namespaces that vanish with the test.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use linux::conntrack::Conntrack;
use linux::netlink::namespace::Namespace;
use linux::nftables::batch::{ChainKind, PRIORITY_DSTNAT, PRIORITY_FILTER, PRIORITY_SRCNAT};
use linux::nftables::expr::{Cmp, Expr};
use linux::nftables::{
    Batch, Chain, DataType, DynsetOp, Element, Family, Field, Hook, HookPoint, Key, NatKind, Reject, Rule, Set, Table,
    Tables, Verdict,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn space() -> (Namespace, Tables) {
    let space = Namespace::create().unwrap();
    let mut socket = space.route_socket().unwrap();
    let lo = socket.link("lo").unwrap().index;
    socket.set_link_up(lo, true).unwrap();
    let tables = Tables::open_in(space.as_fd()).unwrap();
    (space, tables)
}

#[test]
fn every_expression_is_accepted_by_the_kernel() {
    let (_space, mut tables) = space();
    for (family, v6) in [(Family::Ip, false), (Family::Ip6, true), (Family::Inet, false)] {
        let table = Table::new(family, "sk-all");
        let address = if v6 { DataType::Ip6 } else { DataType::Ip4 };
        let sample = if v6 { ip("fd00::7") } else { ip("10.0.0.7") };
        let any_prefix = if v6 { (ip("fd00::"), 64) } else { (ip("10.0.0.0"), 9) };
        let mut batch = Batch::new();
        batch.add_table(&table).unwrap();
        let nat = |point, priority| Hook::new(ChainKind::Nat, point, priority);
        batch.add_chain(&table, &Chain::base("pre", nat(HookPoint::Prerouting, PRIORITY_DSTNAT))).unwrap();
        batch.add_chain(&table, &Chain::base("post", nat(HookPoint::Postrouting, PRIORITY_SRCNAT))).unwrap();
        let filter = Hook::new(ChainKind::Filter, HookPoint::Forward, PRIORITY_FILTER);
        batch.add_chain(&table, &Chain::base("fwd", filter)).unwrap();
        let route = Hook::new(ChainKind::Route, HookPoint::Output, -150);
        batch.add_chain(&table, &Chain::base("route-out", route)).unwrap();
        batch.add_chain(&table, &Chain::regular("svc")).unwrap();

        let service_key = [address, DataType::Protocol, DataType::Port];
        let services = Set::verdict_map("services", &service_key);
        let key = Key::new().ip(sample).protocol(6).port(80);
        batch.add_set(&table, &services).unwrap();
        let leads = Element::verdict(key.clone(), Verdict::Goto("svc".to_owned())).commented("ns/name:http");
        batch.add_elements(&table, &services, &[leads]).unwrap();
        let ranges = Set::new("ranges", &[address]).intervals();
        batch.add_set(&table, &ranges).unwrap();
        batch.add_elements(&table, &ranges, &Element::prefixes(&[any_prefix])).unwrap();
        let concat_ranges = Set::new("concat-ranges", &[address, DataType::Port]).intervals();
        batch.add_set(&table, &concat_ranges).unwrap();
        let low = Key::new().ip(sample).port(1000);
        let element = Element { key_end: Some(Key::new().ip(sample).port(2000)), ..Element::key(low) };
        batch.add_elements(&table, &concat_ranges, &[element]).unwrap();
        let sticky = Set {
            timeout: Some(Duration::from_secs(60)),
            dynamic: true,
            size: Some(1000),
            ..Set::map("sticky", &[address], &[address, DataType::Port])
        };
        batch.add_set(&table, &sticky).unwrap();

        let (source, destination) = (Field::source(v6), Field::destination(v6));
        let fields = [destination, Field::Protocol, Field::DestinationPort];
        let data = [address, DataType::Port];
        let endpoint = |port| Key::new().ip(sample).port(port);
        let local = linux::nftables::expr::ADDRESS_LOCAL.to_ne_bytes();
        let rules: [(&str, Rule); 16] = [
            ("pre", Rule::new().verdict_of(&fields, "services").comment("services")),
            ("pre", Rule::new().is(Field::DestinationType, &local).is(Field::Protocol, &[17]).jump("svc")),
            ("svc", Rule::new().look_up(&[source], "sticky").dnat(v6)),
            (
                "svc",
                Rule::new()
                    .choose(&data, &[endpoint(1), endpoint(2), endpoint(3)])
                    .remember(DynsetOp::Update, &[source], "sticky", true, Some(Duration::from_secs(9)))
                    .dnat(v6),
            ),
            (
                "svc",
                Rule::new().look_up(&[source], "sticky").remember(DynsetOp::Delete, &[source], "sticky", true, None),
            ),
            ("svc", Rule::new().is(Field::Protocol, &[6]).choose(&data, &[endpoint(1)]).dnat(v6)),
            ("svc", Rule::new().in_set(&[destination], "ranges").set_mark_bits(0x4000).verdict(Verdict::Return)),
            ("svc", Rule::new().not_in_set(&[destination, Field::DestinationPort], "concat-ranges").counted()),
            ("fwd", Rule::new().new_connection().is(Field::Protocol, &[6]).reject(Reject::TcpReset)),
            ("fwd", Rule::new().in_prefix(destination, any_prefix.0, any_prefix.1).reject(Reject::PortUnreachable)),
            ("fwd", Rule::new().not_in_prefix(source, any_prefix.0, any_prefix.1).link_prefix(Field::OutputName, "sk")),
            (
                "fwd",
                Rule::new()
                    .is_not(Field::InputName, b"lo\0")
                    .then(Expr::Limit { per_second: 5, burst: 7 })
                    .then(Expr::Log { prefix: "no: ".to_owned() })
                    .verdict(Verdict::Drop),
            ),
            ("post", Rule::new().has_bits(Field::Mark, 0x4000).clear_mark_bits(0x4000).masquerade().counted()),
            (
                "pre",
                Rule::new()
                    .is(Field::Protocol, &[6])
                    .then(Expr::Immediate { value: 99u16.to_be_bytes().to_vec(), to: 8 })
                    .then(Expr::Redirect { port: Some(8) }),
            ),
            (
                "svc",
                Rule::new()
                    .in_inline_set(
                        &[Field::DestinationPort],
                        Set::new("", &[DataType::Port]),
                        vec![Element::key(Key::new().port(1)), Element::key(Key::new().port(2))],
                    )
                    .lacks_bits(Field::Status, linux::nftables::expr::STATUS_SNAT)
                    .then(Expr::Fib { key: linux::nftables::expr::FibKey::SourceType, to: 0 })
                    .then(Expr::Hash { from: 0, length: 4, modulus: 8, seed: 1, to: 1 })
                    .then(Expr::Compare { from: 1, how: Cmp::Less, with: vec![0, 0, 0, 4] })
                    .then(Expr::NumberGenerator { modulus: 4, random: false, to: 2 })
                    .verdict(Verdict::Accept),
            ),
            (
                "post",
                Rule::new()
                    .then(Expr::Immediate { value: linux::netlink::wire::octets(sample), to: 4 })
                    .then(Expr::Nat { kind: NatKind::Source, v6, address: 4, port: None }),
            ),
        ];
        for (chain, rule) in &rules {
            batch.add_rule(&table, chain, rule).unwrap();
        }
        tables.apply(&batch).unwrap();

        assert!(tables.has_table(&table).unwrap());
        assert_eq!(tables.chains(&table).unwrap(), ["pre", "post", "fwd", "route-out", "svc"]);
        let listed = tables.rules(&table).unwrap();
        assert_eq!(listed.len(), rules.len());
        assert_eq!(listed[0].comment.as_deref(), Some("services"));
        assert_eq!(tables.sets(&table).unwrap(), ["services", "ranges", "concat-ranges", "sticky"]);
        let elements = tables.elements(&table, "services").unwrap().unwrap();
        assert_eq!((&elements[0].key, elements[0].chain.as_deref()), (&key.encode(), Some("svc")));
        assert_eq!(elements[0].comment.as_deref(), Some("ns/name:http"));
        assert_eq!(tables.elements(&table, "nothing").unwrap(), None);

        let mut batch = Batch::new();
        batch.delete_elements(&table, &services, &[Element::key(key)]).unwrap();
        let handle = listed.iter().find(|rule| rule.chain == "fwd").unwrap().handle;
        batch.delete_rule(&table, "fwd", handle).unwrap();
        batch.flush_chain(&table, "svc").unwrap();
        batch.flush_set(&table, "ranges").unwrap();
        tables.apply(&batch).unwrap();
        assert!(tables.elements(&table, "services").unwrap().unwrap().is_empty());
        assert_eq!(tables.rules(&table).unwrap().len(), 16 - 7 - 1);
    }
    assert_eq!(tables.tables().unwrap().len(), 3);
    let mut batch = Batch::new();
    batch.destroy_table(&Table::new(Family::Ip, "sk-all")).unwrap();
    batch.destroy_table(&Table::new(Family::Ip, "never-there")).unwrap();
    tables.apply(&batch).unwrap();
    assert_eq!(tables.tables().unwrap().len(), 2);
}

#[test]
fn a_batch_is_all_or_nothing() {
    let (_space, mut tables) = space();
    let table = Table::new(Family::Inet, "sk-half");
    let mut batch = Batch::new();
    batch.add_table(&table).unwrap();
    batch.add_chain(&table, &Chain::regular("a")).unwrap();
    batch.add_rule(&table, "missing", &Rule::new().counted()).unwrap();
    let error = tables.apply(&batch).unwrap_err();
    assert!(error.to_string().contains("add rule to chain missing"), "{error}");
    assert!(!tables.has_table(&table).unwrap());
    let mut batch = Batch::new();
    batch.delete_table(&table).unwrap();
    assert!(tables.apply(&batch).unwrap_err().is_absent());
    tables.apply(&Batch::new()).unwrap();
}

#[test]
fn thousands_of_elements_go_in_one_batch() {
    let (_space, mut tables) = space();
    let table = Table::new(Family::Ip, "sk-big");
    let set = Set::verdict_map("m", &[DataType::Ip4, DataType::Protocol, DataType::Port]);
    let elements: Vec<_> = (0..20_000u32)
        .map(|n| {
            let address = IpAddr::from((0x0a00_0000u32 + n).to_be_bytes());
            Element::verdict(Key::new().ip(address).protocol(6).port(443), Verdict::Drop)
                .commented("some/service:https")
        })
        .collect();
    let mut batch = Batch::new();
    batch.add_table(&table).unwrap();
    batch.add_set(&table, &set).unwrap();
    batch.add_elements(&table, &set, &elements).unwrap();
    tables.apply(&batch).unwrap();
    assert_eq!(tables.elements(&table, "m").unwrap().unwrap().len(), 20_000);
}

/// Leads connections to 127.0.0.9:80 to 127.0.0.1 and one of two ports.
#[test]
fn destinations_are_changed_by_lot() {
    let (space, mut tables) = space();
    let table = Table::new(Family::Ip, "sk-lot");
    let listeners: Vec<_> = (0..2).map(|_| space.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap()).collect();
    let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    for (listener, name) in listeners.into_iter().zip(["a", "b"]) {
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(name.as_bytes());
            }
        });
    }
    let mut batch = Batch::new();
    batch.add_table(&table).unwrap();
    let hook = Hook::new(ChainKind::Nat, HookPoint::Output, PRIORITY_DSTNAT);
    batch.add_chain(&table, &Chain::base("out", hook)).unwrap();
    let choices: Vec<_> = ports.iter().map(|port| Key::new().ip(ip("127.0.0.1")).port(*port)).collect();
    let rule = Rule::new()
        .in_prefix(Field::Destination4, ip("127.0.0.9"), 32)
        .is(Field::Protocol, &[6])
        .choose(&[DataType::Ip4, DataType::Port], &choices)
        .counted()
        .dnat(false);
    batch.add_rule(&table, "out", &rule).unwrap();
    tables.apply(&batch).unwrap();
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..40 {
        let address = SocketAddr::new(ip("127.0.0.9"), 80);
        let mut stream = space.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(2))).unwrap().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        *seen.entry(text).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(tables.rules(&table).unwrap()[0].counter.unwrap().0, 40);
    // The rule's own set is looked up by the kernel only: it is not listed.
    assert!(tables.sets(&table).unwrap().is_empty());
}

#[test]
fn a_stale_flow_is_forgotten() {
    let (space, mut tables) = space();
    let table = Table::new(Family::Ip, "sk-udp");
    let mut batch = Batch::new();
    batch.add_table(&table).unwrap();
    let hook = Hook::new(ChainKind::Nat, HookPoint::Output, PRIORITY_DSTNAT);
    batch.add_chain(&table, &Chain::base("out", hook)).unwrap();
    let server = space.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
    let port = server.local_addr().unwrap().port();
    let rule = Rule::new()
        .is(Field::Protocol, &[17])
        .in_prefix(Field::Destination4, ip("127.0.0.9"), 32)
        .choose(&[DataType::Ip4, DataType::Port], &[Key::new().ip(ip("127.0.0.1")).port(port)])
        .dnat(false);
    batch.add_rule(&table, "out", &rule).unwrap();
    tables.apply(&batch).unwrap();
    let client = space.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
    client.send_to(b"x", "127.0.0.9:53").unwrap();
    let mut conntrack = space.run(Conntrack::open).unwrap().unwrap();
    let stale = |flow: &linux::conntrack::Flow| flow.reply.source_port == port && flow.is_redirected();
    let flow = conntrack.list().unwrap().into_iter().find(stale).unwrap();
    assert_eq!((flow.original.destination, flow.original.destination_port), (ip("127.0.0.9"), 53));
    assert_eq!(flow.reply.source, ip("127.0.0.1"));
    assert_eq!(conntrack.delete_where(stale).unwrap(), 1);
    assert_eq!(conntrack.delete_where(stale).unwrap(), 0);
    conntrack.delete(&flow).unwrap();
}
