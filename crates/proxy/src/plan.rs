//! From services to the ruleset they ask for: a pure function.
//!
//! ```text
//!             prerouting -110        -100                input, forward -110        postrouting 100
//!  packet --> who may ask at all --> services: map ----> refused: no endpoints, --> marked: masquerade
//!             (firewall)             address . protocol  no such service            a pod to itself: masquerade
//!                                    . port -> chain
//!                                    node ports: map
//!  this host --------- output -100 --^      output -90 --^
//! ```
//! A service's chain is one rule that picks an endpoint by lot out of its own map, so a change of endpoints is one rule
//! replaced. A client that shall keep its endpoint is remembered in a map from its address to the endpoint; the rule
//! checks that the endpoint is still one of the service's, so nothing has to be cleaned when endpoints change.
//!
//! # Why
//! Refusing happens after address translation: what still has a service's address then was not translated, so it has
//! no endpoint. Whole ranges of service addresses can be refused that way without listing what does not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use linux::nftables::batch::{ChainKind, PRIORITY_DSTNAT, PRIORITY_SRCNAT};
use linux::nftables::expr::{ADDRESS_LOCAL, Expr, STATUS_DNAT, SetRef};
use linux::nftables::rule::RESULT;
use linux::nftables::{
    DataType, DynsetOp, Element, Family, Field, Hook, HookPoint, Key, Reject, Rule, Set, Table, Verdict,
};

use crate::model::{Node, Prefix, Protocol, ServicePort, ServicePortName};
use crate::ruleset::{Ruleset, TableRules};
use crate::select::{Selected, select};

/// The bit of a packet's mark that asks for masquerading.
pub const MASQUERADE_MARK: u32 = 0x4000;
/// How many clients of one service are remembered.
const MAX_AFFINITY: u32 = 65_535;

/// Everything that follows from the cluster's state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// What the kernel shall do.
    pub ruleset: Ruleset,
    /// The endpoints behind each UDP address and port, to find flows that go elsewhere.
    pub udp: BTreeMap<(IpAddr, u16), BTreeSet<(IpAddr, u16)>>,
    /// What health check ports answer.
    pub health: BTreeMap<u16, Health>,
}

/// What a health check port answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The service's namespace.
    pub namespace: String,
    /// The service's name.
    pub service: String,
    /// How many endpoints this node has.
    pub local_endpoints: usize,
}

/// The name of our tables, one for each family.
pub const TABLE: &str = "skiff-proxy";

/// The table of one family.
pub fn table(v6: bool) -> Table {
    Table::new(if v6 { Family::Ip6 } else { Family::Ip }, TABLE)
}

/// Says what the kernel shall do for these services.
pub fn plan(services: &[ServicePort], node: &Node) -> Plan {
    let mut plan = Plan::default();
    for v6 in [false, true] {
        let mut family = FamilyPlan { v6, node, rules: TableRules::default(), plan: &mut plan };
        family.lay_out();
        for service in services {
            family.service(service);
        }
        let rules = family.rules;
        plan.ruleset.tables.insert(table(v6), rules);
    }
    for service in services {
        if let Some(port) = service.health_check_port {
            let local = [false, true].map(|v6| select(service, node, v6).local.len()).into_iter().sum::<usize>();
            let entry = plan.health.entry(port).or_insert_with(|| Health {
                namespace: service.name.namespace.to_string(),
                service: service.name.service.to_string(),
                local_endpoints: 0,
            });
            // A service's ports have the same pods behind them, by different numbers.
            entry.local_endpoints = entry.local_endpoints.max(local);
        }
    }
    plan
}

struct FamilyPlan<'a> {
    v6: bool,
    node: &'a Node,
    rules: TableRules,
    plan: &'a mut Plan,
}

impl FamilyPlan<'_> {
    fn address(&self) -> DataType {
        if self.v6 { DataType::Ip6 } else { DataType::Ip4 }
    }

    fn destination(&self) -> [Field; 3] {
        [Field::destination(self.v6), Field::Protocol, Field::DestinationPort]
    }

    fn prefixes(&self, prefixes: &[Prefix]) -> Vec<Element> {
        let own = prefixes.iter().filter(|prefix| prefix.address.is_ipv6() == self.v6);
        let pairs: Vec<_> = own.map(|prefix| (prefix.address, prefix.length)).collect();
        Element::prefixes(&pairs)
    }

    /// What is there without any service.
    fn lay_out(&mut self) {
        let address = self.address();
        let full = [address, DataType::Protocol, DataType::Port];
        let port = [DataType::Protocol, DataType::Port];
        for set in [
            Set::verdict_map("services", &full),
            Set::verdict_map("nodeports", &port),
            Set::verdict_map("refused", &full),
            Set::verdict_map("refused-nodeports", &port),
            Set::verdict_map("firewall", &full),
            Set::new("node-ips", &[address]),
            Set::new("hairpin", &[address, address]),
            Set::new("service-ranges", &[address]).intervals(),
            Set::new("pod-ranges", &[address]).intervals(),
        ] {
            self.rules.set(set);
        }
        for ip in self.node.ips.iter().filter(|ip| ip.is_ipv6() == self.v6) {
            self.rules.element("node-ips", Element::key(*ip));
        }
        let (services, pods) = (self.prefixes(&self.node.service_ranges), self.prefixes(&self.node.pod_ranges));
        self.rules.ranges("service-ranges", services);
        self.rules.ranges("pod-ranges", pods);

        let (full, port) = (self.destination(), [Field::Protocol, Field::DestinationPort]);
        let (source, destination) = (Field::source(self.v6), Field::destination(self.v6));
        let filter = |point, priority| Hook::new(ChainKind::Filter, point, priority);
        let nat = |point, priority| Hook::new(ChainKind::Nat, point, priority);
        let new = || Rule::new().new_connection();
        let refuse_service = || new().verdict_of(&full, "refused");
        let refuse_node_port = || new().in_set(&[destination], "node-ips").verdict_of(&port, "refused-nodeports");
        let refuse_range = || new().in_set(&[destination], "service-ranges").goto("reject");
        self.rules.base(
            "filter-prerouting",
            filter(HookPoint::Prerouting, PRIORITY_DSTNAT - 10),
            vec![new().verdict_of(&full, "firewall")],
        );
        self.rules.base(
            "filter-input",
            filter(HookPoint::Input, PRIORITY_DSTNAT - 10),
            vec![refuse_node_port(), refuse_service(), refuse_range()],
        );
        self.rules.base(
            "filter-forward",
            filter(HookPoint::Forward, PRIORITY_DSTNAT - 10),
            vec![refuse_service(), refuse_range()],
        );
        self.rules.base(
            "filter-output",
            filter(HookPoint::Output, PRIORITY_DSTNAT + 10),
            vec![refuse_node_port(), refuse_service(), refuse_range()],
        );
        for (name, point) in [("nat-prerouting", HookPoint::Prerouting), ("nat-output", HookPoint::Output)] {
            self.rules.base(name, nat(point, PRIORITY_DSTNAT), vec![Rule::new().jump("services")]);
        }
        self.rules.base(
            "nat-postrouting",
            nat(HookPoint::Postrouting, PRIORITY_SRCNAT),
            vec![
                Rule::new().has_bits(Field::Mark, MASQUERADE_MARK).clear_mark_bits(MASQUERADE_MARK).masquerade(),
                Rule::new().has_bits(Field::Status, STATUS_DNAT).in_set(&[source, destination], "hairpin").masquerade(),
            ],
        );
        self.rules.chain(
            "services",
            vec![
                Rule::new().verdict_of(&full, "services"),
                Rule::new().in_set(&[destination], "node-ips").verdict_of(&port, "nodeports"),
            ],
        );
        self.rules.chain("mark", vec![Rule::new().set_mark_bits(MASQUERADE_MARK)]);
        self.rules.chain(
            "reject",
            vec![
                // A reset is answered at once; the kernel sends only so many ICMP errors a second.
                Rule::new().is(Field::Protocol, &[Protocol::Tcp.number()]).reject(Reject::TcpReset),
                Rule::new().reject(Reject::PortUnreachable),
            ],
        );
        self.rules.chain("drop", vec![Rule::new().verdict(Verdict::Drop)]);
    }

    fn service(&mut self, service: &ServicePort) {
        let v6 = self.v6;
        let own = |list: &[IpAddr]| -> Vec<IpAddr> { list.iter().copied().filter(|ip| ip.is_ipv6() == v6).collect() };
        let cluster_ips = own(&service.cluster_ips);
        let (external_ips, balancer_ips) = (own(&service.external_ips), own(&service.load_balancer_ips));
        // A service without an address of this family has no node port in it either.
        if cluster_ips.is_empty() && external_ips.is_empty() && balancer_ips.is_empty() {
            return;
        }
        let selected = select(service, self.node, v6);
        self.hairpin(&selected);
        let names = Names::of(service);
        let text = service.name.to_string();
        let protocol = service.protocol.number();
        let key = |ip: IpAddr| Key::new().ip(ip).protocol(protocol).port(service.port);
        let goto = |chain: &str| Verdict::Goto(chain.to_owned());

        if !selected.cluster.is_empty() {
            let rules = self.endpoint_rules(service, &names, &selected.cluster, "all");
            self.rules.chain(&names.cluster, rules);
        }
        let uses_local = service.internal_local || (service.external_local && service.is_external());
        if uses_local && !selected.local.is_empty() {
            let rules = self.endpoint_rules(service, &names, &selected.local, "local");
            self.rules.chain(&names.local, rules);
        }

        for ip in &cluster_ips {
            match self.refusal(service.internal_local, &selected) {
                Some(chain) => {
                    self.rules.element("refused", Element::verdict(key(*ip), goto(chain)).commented(&text));
                }
                None => {
                    let chain = self.entry(service, &names);
                    self.rules.element("services", Element::verdict(key(*ip), goto(&chain)).commented(&text));
                }
            }
            self.note_udp(service, *ip, service.port, &selected);
        }
        if !service.is_external() {
            return;
        }
        let refusal = self.refusal(service.external_local, &selected);
        // Without local endpoints, traffic from inside still gets through: only what is left untranslated is dropped.
        let chain = selected.anywhere.then(|| self.external_chain(service, &names, &selected));
        for ip in external_ips.iter().chain(&balancer_ips) {
            if let Some(refusal) = refusal {
                self.rules.element("refused", Element::verdict(key(*ip), goto(refusal)).commented(&text));
            }
            if let Some(chain) = &chain {
                self.rules.element("services", Element::verdict(key(*ip), goto(chain)).commented(&text));
            }
            self.note_udp(service, *ip, service.port, &selected);
        }
        if !service.source_ranges.is_empty() && !balancer_ips.is_empty() {
            self.firewall(service, &names, &balancer_ips, &key, &text);
        }
        if let Some(port) = service.node_port {
            let key = Key::new().protocol(protocol).port(port);
            if let Some(refusal) = refusal {
                let element = Element::verdict(key.clone(), goto(refusal)).commented(&text);
                self.rules.element("refused-nodeports", element);
            }
            if let Some(chain) = &chain {
                self.rules.element("nodeports", Element::verdict(key, goto(chain)).commented(&text));
            }
            for ip in own(&self.node.ips) {
                self.note_udp(service, ip, port, &selected);
            }
        }
    }

    /// Where traffic without an endpoint goes; `None` if there is one.
    fn refusal(&self, local: bool, selected: &Selected) -> Option<&'static str> {
        if !selected.anywhere {
            Some("reject")
        } else if local && selected.local.is_empty() {
            // Others have endpoints: who asks here should have asked there, and may try again.
            Some("drop")
        } else {
            None
        }
    }

    /// The chain for traffic to cluster addresses: what comes from outside the cluster's pods is masqueraded, for its
    /// answers must come back through this node.
    fn entry(&mut self, service: &ServicePort, names: &Names) -> String {
        let target = if service.internal_local { &names.local } else { &names.cluster };
        let knows_pods = self.node.pod_ranges.iter().any(|prefix| prefix.address.is_ipv6() == self.v6);
        if !knows_pods {
            return target.clone();
        }
        let masquerade = Rule::new().not_in_set(&[Field::source(self.v6)], "pod-ranges").jump("mark");
        self.rules.chain(&names.entry, vec![masquerade, Rule::new().goto(target)]);
        names.entry.clone()
    }

    /// The chain for traffic to node ports, external addresses and load balancers.
    fn external_chain(&mut self, service: &ServicePort, names: &Names, selected: &Selected) -> String {
        let mut rules = Vec::new();
        if service.external_local {
            if !selected.cluster.is_empty() {
                // The policy is for traffic from outside; pods and this node see the service as by its cluster address.
                let pods = Rule::new().in_set(&[Field::source(self.v6)], "pod-ranges").goto(&names.cluster);
                let host = || Rule::new().is(Field::SourceType, &ADDRESS_LOCAL.to_ne_bytes());
                rules.extend([pods, host().jump("mark"), host().goto(&names.cluster)]);
            }
            if !selected.local.is_empty() {
                rules.push(Rule::new().goto(&names.local));
            }
        } else {
            rules.extend([Rule::new().jump("mark"), Rule::new().goto(&names.cluster)]);
        }
        self.rules.chain(&names.external, rules);
        names.external.clone()
    }

    fn firewall(
        &mut self,
        service: &ServicePort,
        names: &Names,
        ips: &[IpAddr],
        key: &dyn Fn(IpAddr) -> Key,
        text: &str,
    ) {
        let mut rules = Vec::new();
        let allowed = self.prefixes(&service.source_ranges);
        if !allowed.is_empty() {
            let set = Set::new("", &[self.address()]).intervals();
            let inside = Rule::new().in_inline_set(&[Field::source(self.v6)], set, allowed);
            rules.push(inside.verdict(Verdict::Return));
        }
        rules.push(Rule::new().verdict(Verdict::Drop));
        self.rules.chain(&names.firewall, rules);
        for ip in ips {
            let verdict = Verdict::Goto(names.firewall.clone());
            self.rules.element("firewall", Element::verdict(key(*ip), verdict).commented(text));
        }
    }

    /// The rules that pick an endpoint.
    fn endpoint_rules(
        &mut self,
        service: &ServicePort,
        names: &Names,
        endpoints: &[(IpAddr, u16)],
        which: &str,
    ) -> Vec<Rule> {
        let v6 = self.v6;
        let data = [self.address(), DataType::Port];
        let choices: Vec<Key> = endpoints.iter().map(|(ip, port)| Key::new().ip(*ip).port(*port)).collect();
        // Always true here, but tools that print rules want to see why there is a port.
        let matched = || Rule::new().is(Field::Protocol, &[service.protocol.number()]);
        let pick = matched().choose(&data, &choices);
        let Some(timeout) = service.affinity else { return vec![pick.dnat(v6)] };
        // The set's name tells its timeout: a set cannot change in place.
        let name = format!("{}-{which}-{}", names.affinity, timeout.as_secs());
        self.rules.set(Set {
            timeout: Some(timeout),
            dynamic: true,
            size: Some(MAX_AFFINITY),
            ..Set::map(&name, &[self.address()], &data)
        });
        let source = [Field::source(v6)];
        let current = SetRef::Inline(Set::new("", &data).inline(), choices.iter().cloned().map(Element::key).collect());
        vec![
            // A client that came before goes where it went, if that is still an endpoint.
            matched()
                .look_up(&source, &name)
                .then(Expr::Lookup { set: current, from: RESULT, not: false })
                .remember(DynsetOp::Update, &source, &name, true, Some(timeout))
                .dnat(v6),
            Rule::new().look_up(&source, &name).remember(DynsetOp::Delete, &source, &name, true, None),
            pick.clone().remember(DynsetOp::Update, &source, &name, true, Some(timeout)).dnat(v6),
            // Too many clients to remember one more.
            pick.dnat(v6),
        ]
    }

    /// Endpoints on this node may be asked by themselves: the packet would come back with its own source.
    fn hairpin(&mut self, selected: &Selected) {
        for (ip, _) in selected.local.iter().filter(|(ip, _)| !self.node.ips.contains(ip)) {
            self.rules.element("hairpin", Element::key(Key::new().ip(*ip).ip(*ip)));
        }
    }

    fn note_udp(&mut self, service: &ServicePort, ip: IpAddr, port: u16, selected: &Selected) {
        if service.protocol == Protocol::Udp {
            let all = selected.cluster.iter().chain(&selected.local).copied();
            self.plan.udp.entry((ip, port)).or_default().extend(all);
        }
    }
}

/// The names of a service port's chains.
struct Names {
    cluster: String,
    local: String,
    entry: String,
    external: String,
    firewall: String,
    affinity: String,
}

impl Names {
    fn of(service: &ServicePort) -> Self {
        let ServicePortName { namespace, service: name, port } = &service.name;
        let tail = format!("{namespace}/{name}/{}/{port}", service.protocol);
        let named = |kind: &str| format!("{kind}-{tail}");
        Self {
            cluster: named("svc"),
            local: named("local"),
            entry: named("cluster"),
            external: named("external"),
            firewall: named("firewall"),
            affinity: named("affinity"),
        }
    }
}
