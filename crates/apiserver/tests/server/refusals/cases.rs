//! The bad input: a line a case.

mod queries;
mod writes;

/// How closely an answer must follow upstream's; code, reason, name, kind and fields always must.
pub enum Said {
    Exactly,
    /// The message up to and with these words.
    UpTo(&'static str),
    /// The causes in any order: where upstream walks a map of Go, theirs is another one each time.
    InAnyOrder,
    /// The message is our own.
    InOtherWords,
    /// Here Skiff differs: this code and reason.
    Ours(u16, &'static str),
}

pub struct Case {
    pub name: &'static str,
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub said: Said,
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MAP: &str = "/api/v1/namespaces/default/configmaps/there";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/there";
const THINGS: &str = "/apis/test.example/v1/namespaces/default/things";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
/// A decoder's own words follow.
const OBJECT: Said = Said::UpTo("): ");
const HANDLED: Said = Said::UpTo("cannot be handled as a ");
/// What a patch made is shown, and why it does not fit.
const UNFIT: Said = Said::UpTo("is invalid: patch: Invalid value: ");

struct Table(Vec<Case>);

impl Table {
    fn add(&mut self, name: &'static str, method: &'static str, path: &str, kind: &str, body: &[u8], said: Said) {
        let headers = if kind.is_empty() { vec![] } else { vec![("Content-Type".to_string(), kind.to_string())] };
        self.0.push(Case { name, method, path: path.into(), headers, body: body.into(), said });
    }

    fn post(&mut self, name: &'static str, path: &str, kind: &str, body: impl AsRef<[u8]>, said: Said) {
        self.add(name, "POST", path, kind, body.as_ref(), said);
    }

    fn put(&mut self, name: &'static str, path: &str, body: impl AsRef<[u8]>, said: Said) {
        self.add(name, "PUT", path, JSON, body.as_ref(), said);
    }

    fn patch(&mut self, name: &'static str, path: &str, kind: &str, body: impl AsRef<[u8]>, said: Said) {
        self.add(name, "PATCH", path, kind, body.as_ref(), said);
    }

    fn get(&mut self, name: &'static str, path: &str, said: Said) {
        self.add(name, "GET", path, "", b"", said);
    }

    fn delete(&mut self, name: &'static str, path: &str, kind: &str, body: impl AsRef<[u8]>, said: Said) {
        self.add(name, "DELETE", path, kind, body.as_ref(), said);
    }
}

/// Every case, in the order in which they are sent; none changes what another one finds.
pub fn all() -> Vec<Case> {
    let mut table = Table(Vec::new());
    json(&mut table);
    values(&mut table);
    strictness(&mut table);
    depth_and_size(&mut table);
    yaml_and_protobuf(&mut table);
    media_types(&mut table);
    writes::patches(&mut table);
    writes::applies(&mut table);
    writes::updates(&mut table);
    writes::creates(&mut table);
    writes::deletes(&mut table);
    queries::options(&mut table);
    queries::selectors(&mut table);
    queries::versions(&mut table);
    queries::paths(&mut table);
    table.0
}

fn json(t: &mut Table) {
    t.post("an empty body", MAPS, JSON, "", OBJECT);
    t.post("no JSON", MAPS, JSON, "what is this", OBJECT);
    t.post("JSON that ends too soon", MAPS, JSON, r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"#, OBJECT);
    t.post("a comma too many", MAPS, JSON, r#"{"metadata":{"name":"a",}}"#, OBJECT);
    t.post("a second object", MAPS, JSON, r#"{"metadata":{"name":"a"}} {"metadata":{}}"#, OBJECT);
    t.post("an array", MAPS, JSON, "[]", OBJECT);
    t.post("a number", MAPS, JSON, "5", OBJECT);
    t.post("a string", MAPS, JSON, r#""text""#, OBJECT);
    t.post("a control character in a string", MAPS, JSON, "{\"metadata\":{\"name\":\"a\u{1}\"}}", OBJECT);
    t.post("a bad escape", MAPS, JSON, r#"{"metadata":{"name":"\q"}}"#, OBJECT);
    t.post("a bad number", MAPS, JSON, r#"{"metadata":{"generation":01}}"#, OBJECT);
    t.post("a bare word", MAPS, JSON, r#"{"immutable":yes}"#, OBJECT);
    t.post("a key that is no string", MAPS, JSON, r#"{5:5}"#, OBJECT);
    t.post("no JSON for a custom resource", THINGS, JSON, "what is this", OBJECT);
    t.post("an array for a custom resource", THINGS, JSON, "[]", Said::InOtherWords);
}

fn values(t: &mut Table) {
    let post = |t: &mut Table, name, body: &str| t.post(name, MAPS, JSON, body, HANDLED);
    post(t, "metadata that is a number", r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":5}"#);
    post(t, "data that is a string", r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":"x"}"#);
    post(
        t,
        "a value that is a number",
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"a":5}}"#,
    );
    post(
        t,
        "a bool that is a string",
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"immutable":"yes"}"#,
    );
    post(
        t,
        "bytes that are no base64",
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"binaryData":{"a":"%%"}}"#,
    );
    post(
        t,
        "labels that are numbers",
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","labels":{"a":1}}}"#,
    );
    post(
        t,
        "annotations that are a list",
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","annotations":[]}}"#,
    );
    post(
        t,
        "finalizers that are a string",
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","finalizers":"x"}}"#,
    );
    post(
        t,
        "a time that is none",
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","creationTimestamp":"yesterday"}}"#,
    );
    t.post(
        "an apiVersion that is a number",
        MAPS,
        JSON,
        r#"{"kind":"ConfigMap","apiVersion":5,"metadata":{"name":"a"}}"#,
        OBJECT,
    );
    t.post("a kind that is an object", MAPS, JSON, r#"{"kind":{},"apiVersion":"v1","metadata":{"name":"a"}}"#, OBJECT);
    let deployment = |spec: &str| {
        format!(
            r#"{{"kind":"Deployment","apiVersion":"apps/v1","metadata":{{"name":"a"}},"spec":{{"selector":{{"matchLabels":{{"a":"b"}}}},{spec},
          "template":{{"metadata":{{"labels":{{"a":"b"}}}},"spec":{{"containers":[{{"name":"c","image":"i"}}]}}}}}}}}"#
        )
    };
    t.post("a count that is a word", DEPLOYMENTS, JSON, deployment(r#""replicas":"three""#), HANDLED);
    t.post("a count that is a fraction", DEPLOYMENTS, JSON, deployment(r#""replicas":1.5"#), HANDLED);
    t.post("a count out of range", DEPLOYMENTS, JSON, deployment(r#""replicas":99999999999"#), HANDLED);
    t.post("a count below zero", DEPLOYMENTS, JSON, deployment(r#""replicas":-1"#), Said::Exactly);
    // Upstream shows its own type, whose fields are spelled otherwise: {"Type":"Hope","RollingUpdate":null}.
    let strategy = deployment(r#""strategy":{"type":"Hope"}"#);
    t.post("a strategy that is unknown", DEPLOYMENTS, JSON, strategy, Said::InOtherWords);
    t.post(
        "a surge that is no share",
        DEPLOYMENTS,
        JSON,
        deployment(r#""strategy":{"rollingUpdate":{"maxSurge":"much"}}"#),
        Said::Exactly,
    );
    let pod = |container: &str| {
        format!(
            r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"a"}},"spec":{{"containers":[{{"name":"c","image":"i",{container}}}]}}}}"#
        )
    };
    let pods = "/api/v1/namespaces/default/pods";
    t.post("a quantity that is none", pods, JSON, pod(r#""resources":{"limits":{"memory":"much"}}"#), HANDLED);
    t.post("a port that is a word", pods, JSON, pod(r#""ports":[{"containerPort":"http"}]"#), HANDLED);
    t.post("a port out of range", pods, JSON, pod(r#""ports":[{"containerPort":70000}]"#), Said::Exactly);
    t.post("a list that is an object", pods, JSON, pod(r#""env":{}"#), HANDLED);
    t.post("an item that is a string", pods, JSON, pod(r#""env":["a"]"#), HANDLED);
    t.post("no containers", pods, JSON, r#"{"metadata":{"name":"a"},"spec":{"containers":[]}}"#, Said::Exactly);
    t.post("many faults at once", pods, JSON, r#"{"metadata":{"name":"A_"},"spec":{"restartPolicy":"Maybe","containers":[{"name":"UP"},{"name":"UP","image":"i"}]}}"#, Said::Exactly);
    t.post(
        "a custom resource without what it needs",
        THINGS,
        JSON,
        r#"{"kind":"Thing","apiVersion":"test.example/v1","metadata":{"name":"a"},"spec":{}}"#,
        Said::Exactly,
    );
    t.post(
        "a custom resource of wrong types",
        THINGS,
        JSON,
        r#"{"kind":"Thing","apiVersion":"test.example/v1","metadata":{"name":"a"},"spec":{"size":"big","color":5}}"#,
        Said::InAnyOrder,
    );
    t.post(
        "a custom resource out of its bounds",
        THINGS,
        JSON,
        r#"{"kind":"Thing","apiVersion":"test.example/v1","metadata":{"name":"a"},"spec":{"size":0,"color":"green"}}"#,
        Said::InAnyOrder,
    );
    t.post(
        "a custom resource that has a number for metadata",
        THINGS,
        JSON,
        r#"{"kind":"Thing","apiVersion":"test.example/v1","metadata":5}"#,
        Said::InOtherWords,
    );
}

fn strictness(t: &mut Table) {
    let unknown = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","nam":"b"},"dat":{},"more":[1]}"#;
    let twice = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","name":"b"},"data":{"a":"1","a":"2"},"data":{}}"#;
    for (name, kind, body, how) in [
        ("unknown fields, strict", "Strict", unknown, Said::Exactly),
        ("unknown fields, warned of", "Warn", unknown, Said::Exactly),
        ("unknown fields, ignored", "Ignore", unknown, Said::Exactly),
        ("duplicate keys, strict", "Strict", twice, Said::Exactly),
        ("duplicate keys, warned of", "Warn", twice, Said::Exactly),
        ("duplicate keys, ignored", "Ignore", twice, Said::Exactly),
    ] {
        t.post(name, &format!("{MAPS}?dryRun=All&fieldValidation={kind}"), JSON, body, how);
    }
    let thing = r#"{"kind":"Thing","apiVersion":"test.example/v1","metadata":{"name":"a","nam":"b"},"spec":{"size":1,"size":2,"tall":true}}"#;
    t.post(
        "a custom resource, strict",
        &format!("{THINGS}?dryRun=All&fieldValidation=Strict"),
        JSON,
        thing,
        Said::Exactly,
    );
    t.post(
        "a custom resource, warned of",
        &format!("{THINGS}?dryRun=All&fieldValidation=Warn"),
        JSON,
        thing,
        Said::Exactly,
    );
    let yaml = "kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: a\n  name: b\n  nam: c\ndata: {a: x, a: z}\n";
    t.post(
        "YAML with duplicate keys, strict",
        &format!("{MAPS}?dryRun=All&fieldValidation=Strict"),
        YAML,
        yaml,
        Said::UpTo("strict decoding error: "),
    );
    t.post(
        "YAML with duplicate keys, warned of",
        &format!("{MAPS}?dryRun=All&fieldValidation=Warn"),
        YAML,
        yaml,
        Said::InOtherWords,
    );
    t.patch(
        "a patch with an unknown field, strict",
        &format!("{MAP}?dryRun=All&fieldValidation=Strict"),
        MERGE,
        r#"{"dat":{"a":"c"}}"#,
        UNFIT,
    );
    t.patch(
        "a patch with a duplicate key, strict",
        &format!("{MAP}?dryRun=All&fieldValidation=Strict"),
        STRATEGIC,
        r#"{"data":{"a":"c","a":"d"}}"#,
        Said::InOtherWords,
    );
    t.patch(
        "a patch with an unknown field, warned of",
        &format!("{MAP}?dryRun=All"),
        MERGE,
        r#"{"dat":{"a":"c"}}"#,
        Said::Exactly,
    );
}

fn depth_and_size(t: &mut Table) {
    let nested = |count: usize, open: &str, close: &str| format!("{}{}", open.repeat(count), close.repeat(count));
    let unknown = |count: usize| {
        format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"a"}},"x":{}}}"#, nested(count, "[", "]"))
    };
    let path = format!("{MAPS}?dryRun=All&fieldValidation=Ignore");
    t.post("nesting in an unknown field", &path, JSON, unknown(100), Said::Exactly);
    // Upstream goes down to ten thousand.
    t.post("deep nesting in an unknown field", &path, JSON, unknown(5_000), Said::Ours(400, "BadRequest"));
    t.post("too deep nesting in an unknown field", &path, JSON, unknown(100_000), OBJECT);
    let body =
        format!(r#"{{"metadata":{{"name":"a","x":{}}}}}"#, nested(200_000, r#"{"x":"#, "}").replace(":}", ":1}"));
    t.post("too many objects in each other", MAPS, JSON, body, OBJECT);
    let body = format!("metadata: {{name: a}}\nx: {}\n", nested(100_000, "[", "]"));
    t.post("too deep YAML", MAPS, YAML, body, Said::InOtherWords);
    let body = format!(
        r#"{{"kind":"Thing","apiVersion":"test.example/v1","metadata":{{"name":"a"}},"spec":{{"size":1,"x":{}}}}}"#,
        nested(100_000, "[", "]")
    );
    t.post("too deep a custom resource", THINGS, JSON, body, Said::InOtherWords);
    t.patch("too deep a patch", MAP, MERGE, format!(r#"{{"x":{}}}"#, nested(100_000, "[", "]")), Said::InOtherWords);
    // Aliases that stand for aliases: a little text, a huge tree.
    let mut bomb = String::from("metadata: {name: a}\na0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for i in 1..12 {
        let alias = format!("*a{},", i - 1).repeat(9);
        bomb.push_str(&format!("a{i}: &a{i} [{alias}]\n"));
    }
    t.post("YAML that is a bomb", MAPS, YAML, bomb, Said::InOtherWords);

    let long = |count: usize| format!(r#"{{"metadata":{{"name":"a"}},"data":{{"k":"{}"}}}}"#, "x".repeat(count));
    t.post("a ConfigMap over its limit", MAPS, JSON, long((1 << 20) + 1), Said::Exactly);
    t.post("a body over the limit", MAPS, JSON, long(3 << 20), Said::Exactly);
    t.patch("a patch over the limit", MAP, MERGE, long(3 << 20), Said::Exactly);
    t.put("an update over the limit", MAP, long(3 << 20), Said::Exactly);
    t.delete("delete options over the limit", MAP, JSON, long(3 << 20), Said::Exactly);
    let body = format!(r#"{{"metadata":{{"name":"a","annotations":{{"k":"{}"}}}}}}"#, "x".repeat(300_000));
    t.post("annotations over their limit", MAPS, JSON, body, Said::Exactly);
    let body = format!(r#"{{"metadata":{{"name":"a"}},"data":{{"k":"{}"}}}}"#, "eA==".repeat(300_000));
    t.post("a Secret over its limit", "/api/v1/namespaces/default/secrets", JSON, body, HANDLED);
}

fn yaml_and_protobuf(t: &mut Table) {
    t.post("YAML with a tab", MAPS, YAML, "metadata:\n\tname: a\n", OBJECT);
    t.post("YAML that is not closed", MAPS, YAML, "metadata: {name: a\n", OBJECT);
    t.post("YAML of nested mappings on a line", MAPS, YAML, "a: b: c\n", OBJECT);
    t.post("YAML with an unknown alias", MAPS, YAML, "metadata: *nobody\n", OBJECT);
    t.post("YAML that is a list", MAPS, YAML, "- a\n- b\n", OBJECT);
    t.post("empty YAML", MAPS, YAML, "", Said::Exactly);
    t.post(
        "YAML of wrong types",
        MAPS,
        YAML,
        "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata: {a: [1]}\n",
        HANDLED,
    );
    let magic = b"k8s\0".to_vec();
    let with = |more: &[u8]| [&magic[..], more].concat();
    // A Unknown of type meta (1) and raw (2).
    let unknown = |group_version: &str, kind: &str, raw: &[u8]| {
        let text = |tag: u8, text: &[u8]| [&[tag, text.len() as u8][..], text].concat();
        let types = [text(0x0a, group_version.as_bytes()), text(0x12, kind.as_bytes())].concat();
        with(&[text(0x0a, &types), text(0x12, raw)].concat())
    };
    t.post("empty protobuf", MAPS, PROTOBUF, "", Said::InOtherWords);
    t.post("protobuf without its magic", MAPS, PROTOBUF, r#"{"metadata":{"name":"a"}}"#, Said::InOtherWords);
    t.post("protobuf that is the magic alone", MAPS, PROTOBUF, &magic, Said::InOtherWords);
    t.post("protobuf that is noise", MAPS, PROTOBUF, with(&[0xff; 64]), Said::InOtherWords);
    t.post("protobuf that ends too soon", MAPS, PROTOBUF, with(&[0x0a, 0x7f, 1]), Said::InOtherWords);
    t.post(
        "protobuf whose object ends too soon",
        MAPS,
        PROTOBUF,
        unknown("v1", "ConfigMap", &[0x0a, 0x40, 0x0a]),
        Said::InOtherWords,
    );
    t.post(
        "protobuf with a wrong wire type",
        MAPS,
        PROTOBUF,
        unknown("v1", "ConfigMap", &[0x08, 1]),
        Said::InOtherWords,
    );
    t.post(
        "protobuf with an endless number",
        MAPS,
        PROTOBUF,
        unknown("v1", "ConfigMap", &[0xff; 20]),
        Said::InOtherWords,
    );
    t.post("protobuf of another kind", MAPS, PROTOBUF, unknown("v1", "Secret", &[]), Said::InOtherWords);
    t.post("protobuf of no kind", MAPS, PROTOBUF, unknown("v7", "Nothing", &[]), Said::InOtherWords);
    // Upstream panics and closes the connection.
    let thing = unknown("test.example/v1", "Thing", &[]);
    t.post("protobuf for a custom resource", THINGS, PROTOBUF, thing, Said::Ours(415, "UnsupportedMediaType"));
}

fn media_types(t: &mut Table) {
    let body = r#"{"metadata":{"name":"a"}}"#;
    t.post("plain text", MAPS, "text/plain", body, Said::Exactly);
    t.post("a form", MAPS, "application/x-www-form-urlencoded", body, Said::Exactly);
    t.post("a media type that is noise", MAPS, ";;;=", body, Said::Exactly);
    t.post(
        "a media type with a character set",
        &format!("{MAPS}?dryRun=All"),
        "application/json; charset=utf-8",
        body,
        Said::Exactly,
    );
    t.post("plain text for a custom resource", THINGS, "text/plain", body, Said::Exactly);
    t.patch("a patch of plain JSON", MAP, JSON, "{}", Said::Exactly);
    t.patch("a patch of no type", MAP, "", "{}", Said::Exactly);
    t.patch("a strategic patch of a custom resource", &format!("{THINGS}/nobody"), STRATEGIC, "{}", Said::Exactly);
    t.delete("delete options as plain text", MAP, "text/plain", "{}", Said::Exactly);
    for (name, accept) in [
        ("accepts pages", "text/html"),
        ("accepts noise", ";;;"),
        ("accepts an unknown transformation", "application/json;as=Poem;v=v1;g=meta.k8s.io"),
        ("accepts a table of an unknown version", "application/json;as=Table;v=v9;g=meta.k8s.io"),
        ("accepts a table as protobuf", "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io"),
        ("accepts pages, or anything", "text/html, */*"),
    ] {
        t.get(name, MAPS, Said::Exactly);
        t.0.last_mut().unwrap().headers.push(("Accept".into(), accept.into()));
    }
    t.get("accepts a page of a custom resource", THINGS, Said::Exactly);
    t.0.last_mut().unwrap().headers.push(("Accept".into(), PROTOBUF.into()));
    t.get("a table with an unknown wish", &format!("{MAPS}?includeObject=Some"), Said::Exactly);
    t.0.last_mut().unwrap().headers.push(("Accept".into(), "application/json;as=Table;v=v1;g=meta.k8s.io".into()));
}
