//! Ownership through the life of an object, on a schema made by hand.

use std::borrow::Cow;
use std::sync::Arc;

use super::*;
use crate::schema::{Facets, Field, ListType, Literal, Node, Omit, Patch, Ref, StructRef, Type};

fn field(name: &'static str, node: Node) -> Field {
    Field { name: name.into(), tag: 0, pointer: false, omit: Omit::Empty, required: false, patch: Patch::REPLACE, node }
}

fn structure(name: &'static str, fields: Vec<Field>) -> Struct {
    Struct {
        name: name.into(),
        doc: "".into(),
        fields: Cow::Owned(fields),
        preserve_unknown: false,
        embedded_resource: false,
        atomic: false,
    }
}

fn of(schema: Struct) -> Node {
    Node::of(Type::Struct(StructRef::Shared(Arc::new(schema))))
}

fn list(element: Node, facets: Facets) -> Node {
    Node { ty: Type::List(Ref::Shared(Arc::new(element))), facets: Some(Ref::Shared(Arc::new(facets))) }
}

fn text() -> Node {
    Node::of(Type::String)
}

fn map() -> Node {
    Node::of(Type::Map(Ref::Shared(Arc::new(text()))))
}

/// A kind with a keyed list whose key has a default, a set, an atomic list, an atomic map and a granular one.
fn schema() -> Struct {
    let tcp = Facets { default: Some(Literal::Json("\"TCP\"")), ..Facets::NONE };
    let protocol = Node { ty: Type::String, facets: Some(Ref::Shared(Arc::new(tcp))) };
    let port = structure(
        "Port",
        vec![field("port", Node::of(Type::Int32)), field("protocol", protocol), field("name", text())],
    );
    let keys = Facets {
        list_type: Some(ListType::Map),
        list_map_keys: Cow::Owned(vec!["port".into(), "protocol".into()]),
        ..Facets::NONE
    };
    let set = Facets { list_type: Some(ListType::Set), ..Facets::NONE };
    let atomic = Facets { atomic: true, ..Facets::NONE };
    let selector = Node { facets: Some(Ref::Shared(Arc::new(atomic))), ..map() };
    let spec = structure(
        "Spec",
        vec![
            field("replicas", Node::of(Type::Int32)),
            field("ports", list(of(port), keys)),
            field("finalizers", list(text(), set)),
            field("args", list(text(), Facets::NONE)),
            field("selector", selector),
        ],
    );
    let metadata = structure(
        "ObjectMeta",
        vec![
            field("name", text()),
            field("namespace", text()),
            field("uid", text()),
            field("labels", map()),
            field("annotations", map()),
        ],
    );
    let status = structure("Status", vec![field("replicas", Node::of(Type::Int32))]);
    structure("Thing", vec![field("metadata", of(metadata)), field("spec", of(spec)), field("status", of(status))])
}

struct World {
    schema: Struct,
    live: Option<Value>,
    clock: u32,
}

impl World {
    fn new() -> World {
        World { schema: schema(), live: None, clock: 0 }
    }

    fn with<R>(
        &mut self,
        manager: &str,
        subresource: &str,
        run: impl FnOnce(Option<&Value>, &ManagerCx<'_>) -> R,
    ) -> R {
        self.clock += 1;
        let now = format!("2026-01-01T00:00:{:02}Z", self.clock);
        let reset = if subresource.is_empty() { Set::of_fields(&[&["status"]]) } else { Set::of_fields(&[&["spec"]]) };
        let cx = ManagerCx {
            manager,
            subresource,
            api_version: "v1",
            kind: "Thing",
            now: &now,
            schema: &self.schema,
            reset_fields: &reset,
            versions: &[],
        };
        run(self.live.as_ref(), &cx)
    }

    fn read(body: &str) -> Value {
        let mut value = json_text::read(body).unwrap();
        value.as_map_mut().unwrap().insert("apiVersion", "v1");
        value.as_map_mut().unwrap().insert("kind", "Thing");
        value
    }

    fn update(&mut self, manager: &str, body: &str) {
        let mut new = World::read(body);
        new.as_map_mut()
            .unwrap()
            .get_or_insert_with("metadata", || Value::Map(Map::new()))
            .as_map_mut()
            .unwrap()
            .insert("uid", "1");
        self.with(manager, "", |live, cx| update(live, &mut new, cx));
        self.live = Some(new);
    }

    fn apply(&mut self, manager: &str, body: &str, force: bool) -> Result<(), String> {
        let config = World::read(body);
        let new = self.with(manager, "", |live, cx| apply(live, config, cx, force)).map_err(|e| e.to_string())?;
        self.live = Some(new);
        Ok(())
    }

    fn spec(&self) -> String {
        json_text::write(self.live.as_ref().unwrap().get("spec").unwrap_or(&Value::Null))
    }

    /// `manager operation: fields` of every entry.
    fn owners(&self) -> Vec<String> {
        let managers = managed::decode(managed_fields(self.live.as_ref().unwrap())).unwrap();
        managers.iter().map(|(m, o)| format!("{} {}: {}", m.name, m.operation, o.set.to_json())).collect()
    }
}

#[test]
fn an_applier_removes_what_it_no_longer_lists() {
    let mut world = World::new();
    world
        .apply("a", r#"{"spec":{"replicas":1,"args":["x"],"ports":[{"port":80,"name":"web"},{"port":81}]}}"#, false)
        .unwrap();
    world.apply("a", r#"{"spec":{"replicas":1,"ports":[{"port":80}]}}"#, false).unwrap();
    assert_eq!(world.spec(), r#"{"ports":[{"port":80}],"replicas":1}"#);
    assert_eq!(
        world.owners(),
        [
            r#"a Apply: {"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}},"f:replicas":{}}}"#
        ]
    );
}

#[test]
fn what_another_owns_stays_and_conflicts() {
    let mut world = World::new();
    world.apply("a", r#"{"spec":{"replicas":1,"args":["x"]}}"#, false).unwrap();
    world.apply("b", r#"{"spec":{"replicas":1,"finalizers":["f"]}}"#, false).unwrap();
    world.apply("a", r#"{"spec":{"args":["x"]}}"#, false).unwrap();
    assert_eq!(world.spec(), r#"{"args":["x"],"finalizers":["f"],"replicas":1}"#);
    let error = world.apply("a", r#"{"spec":{"replicas":2}}"#, false).unwrap_err();
    assert_eq!(error, "Apply failed with 1 conflict: conflict with \"b\": .spec.replicas");
    world.update("u", r#"{"spec":{"args":["y"],"finalizers":["f"],"replicas":1}}"#);
    let error = world.apply("a", r#"{"spec":{"replicas":2,"args":["z"]}}"#, false).unwrap_err();
    assert_eq!(
        error,
        "Apply failed with 2 conflicts: conflicts with \"b\":\n- .spec.replicas\nconflicts with \"u\" using v1:\n- .spec.args"
    );
    world.apply("a", r#"{"spec":{"replicas":2,"args":["z"]}}"#, true).unwrap();
    assert_eq!(world.spec(), r#"{"args":["z"],"finalizers":["f"],"replicas":2}"#);
    assert_eq!(
        world.owners(),
        [
            r#"a Apply: {"f:spec":{"f:args":{},"f:replicas":{}}}"#,
            r#"b Apply: {"f:spec":{"f:finalizers":{"v:\"f\"":{}}}}"#
        ]
    );
}

#[test]
fn updates_own_what_they_change_and_status_is_not_theirs() {
    let mut world = World::new();
    world.update(
        "u",
        r#"{"metadata":{"name":"n","labels":{"a":"b"}},"spec":{"selector":{"k":"v"}},"status":{"replicas":3}}"#,
    );
    assert_eq!(
        world.owners(),
        [r#"u Update: {"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:spec":{".":{},"f:selector":{}}}"#]
    );
    let before = world.live.clone();
    let mut same = before.clone().unwrap();
    world.with("other", "", |live, cx| update(live, &mut same, cx));
    assert_eq!(Some(same), before, "an update without effect changes no manager");
}

#[test]
fn old_updaters_are_merged_and_a_reset_forgets_all() {
    let mut world = World::new();
    for i in 0..13 {
        world.update(
            &format!("m{i:02}"),
            &format!(
                r#"{{"spec":{{"args":["{i}"]}},"metadata":{{"labels":{{{}}}}}}}"#,
                (0..=i).map(|n| format!(r#""l{n}":"x""#)).collect::<Vec<_>>().join(",")
            ),
        );
    }
    assert_eq!(world.owners().len(), 10);
    assert!(world.owners()[0].starts_with("ancient-changes Update"), "{:?}", world.owners());
    world.update("z", r#"{"metadata":{"managedFields":[{}]},"spec":{}}"#);
    assert!(managed_fields(world.live.as_ref().unwrap()).is_none());
    world.apply("a", r#"{"spec":{"replicas":1}}"#, false).unwrap();
    assert!(world.owners().iter().any(|o| o.starts_with("a Apply")), "{:?}", world.owners());
}

#[test]
fn kubectl_takes_over_what_it_applied_from_the_client() {
    let mut world = World::new();
    let annotation = r#"{\"apiVersion\":\"v1\",\"kind\":\"Thing\",\"spec\":{\"replicas\":1}}"#;
    world.update(
        "kubectl-client-side-apply",
        &format!(r#"{{"metadata":{{"annotations":{{"{LAST_APPLIED}":"{annotation}"}}}},"spec":{{"replicas":1}}}}"#),
    );
    world.apply("kubectl", r#"{"spec":{"replicas":2}}"#, false).unwrap();
    assert_eq!(world.spec(), r#"{"replicas":2}"#);
    let live = world.live.as_ref().unwrap();
    assert_eq!(
        live.str_at(&["metadata", "annotations", LAST_APPLIED]),
        Some("{\"apiVersion\":\"v1\",\"kind\":\"Thing\",\"spec\":{\"replicas\":2}}\n")
    );
}

#[test]
fn a_configuration_must_fit() {
    let mut world = World::new();
    let mut error = |body| world.apply("a", body, false).unwrap_err();
    assert_eq!(
        error(r#"{"metadata":{"name":"n"},"spec":{"nope":1}}"#),
        "failed to create typed patch object (/n; /v1, Kind=Thing): .spec.nope: field not declared in schema"
    );
    assert_eq!(
        error(r#"{"spec":{"replicas":"1"}}"#),
        "failed to create typed patch object (/; /v1, Kind=Thing): .spec.replicas: expected numeric (int or float), got string"
    );
    assert_eq!(
        error(r#"{"spec":{"ports":[{"port":1},{"port":1,"protocol":"TCP"}]}}"#),
        "failed to create typed patch object (/; /v1, Kind=Thing): .spec.ports: duplicate entries for key [port=1,protocol=\"TCP\"]"
    );
    assert_eq!(error(r#"{"metadata":{"managedFields":[]}}"#), "metadata.managedFields must be nil");
}
