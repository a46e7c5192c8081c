//! The facts of upstream's Go types and of its published description of the API.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use super::ours::{FieldFacts, last};

/// Go packages: the name that our facts use, the module, the folder in it, the prefix of its OpenAPI names.
const PACKAGES: [(&str, &str, &str, &str); 25] = [
    ("admission/v1", "k8s.io/api", "admission/v1", "io.k8s.api.admission.v1"),
    ("admissionregistration/v1", "k8s.io/api", "admissionregistration/v1", "io.k8s.api.admissionregistration.v1"),
    ("apps/v1", "k8s.io/api", "apps/v1", "io.k8s.api.apps.v1"),
    ("authentication/v1", "k8s.io/api", "authentication/v1", "io.k8s.api.authentication.v1"),
    ("authorization/v1", "k8s.io/api", "authorization/v1", "io.k8s.api.authorization.v1"),
    ("autoscaling/v1", "k8s.io/api", "autoscaling/v1", "io.k8s.api.autoscaling.v1"),
    ("autoscaling/v2", "k8s.io/api", "autoscaling/v2", "io.k8s.api.autoscaling.v2"),
    ("batch/v1", "k8s.io/api", "batch/v1", "io.k8s.api.batch.v1"),
    ("certificates/v1", "k8s.io/api", "certificates/v1", "io.k8s.api.certificates.v1"),
    ("coordination/v1", "k8s.io/api", "coordination/v1", "io.k8s.api.coordination.v1"),
    ("core/v1", "k8s.io/api", "core/v1", "io.k8s.api.core.v1"),
    ("discovery/v1", "k8s.io/api", "discovery/v1", "io.k8s.api.discovery.v1"),
    ("events/v1", "k8s.io/api", "events/v1", "io.k8s.api.events.v1"),
    ("flowcontrol/v1", "k8s.io/api", "flowcontrol/v1", "io.k8s.api.flowcontrol.v1"),
    ("networking/v1", "k8s.io/api", "networking/v1", "io.k8s.api.networking.v1"),
    ("node/v1", "k8s.io/api", "node/v1", "io.k8s.api.node.v1"),
    ("policy/v1", "k8s.io/api", "policy/v1", "io.k8s.api.policy.v1"),
    ("rbac/v1", "k8s.io/api", "rbac/v1", "io.k8s.api.rbac.v1"),
    ("resource/v1", "k8s.io/api", "resource/v1", "io.k8s.api.resource.v1"),
    ("scheduling/v1", "k8s.io/api", "scheduling/v1", "io.k8s.api.scheduling.v1"),
    ("scheduling/v1alpha3", "k8s.io/api", "scheduling/v1alpha3", "io.k8s.api.scheduling.v1alpha3"),
    ("storage/v1", "k8s.io/api", "storage/v1", "io.k8s.api.storage.v1"),
    ("storagemigration/v1", "k8s.io/api", "storagemigration/v1", "io.k8s.api.storagemigration.v1"),
    (
        "apiextensions/v1",
        "k8s.io/apiextensions-apiserver",
        "pkg/apis/apiextensions/v1",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
    ),
    (
        "apiregistration/v1",
        "k8s.io/kube-aggregator",
        "pkg/apis/apiregistration/v1",
        "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1",
    ),
];
const META: &str = "meta/v1";
const META_PREFIX: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Upstream's structs by OpenAPI name, and what it serves by default.
pub struct Upstream {
    pub structs: BTreeMap<String, Vec<FieldFacts>>,
    /// Resources and subresources by group version.
    pub served: BTreeMap<String, BTreeSet<String>>,
    packages: BTreeMap<String, Package>,
    required: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Deserialize)]
struct Package {
    types: Vec<GoType>,
    consts: BTreeMap<String, Vec<String>>,
}

/// A Go type declaration as `conformance/schema` prints it.
#[derive(Deserialize)]
pub struct GoType {
    pub name: String,
    underlying: String,
    r#struct: bool,
    pub fields: Vec<GoField>,
    pub markers: Vec<String>,
}

/// One field of a Go struct.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GoField {
    pub go: String,
    r#type: String,
    json: String,
    protobuf: String,
    patch: String,
    merge_key: String,
    embedded: bool,
    pub markers: Vec<String>,
}

#[derive(Deserialize)]
struct Swagger {
    paths: BTreeMap<String, BTreeMap<String, serde_json::Value>>,
    definitions: BTreeMap<String, Definition>,
}

#[derive(Deserialize)]
struct Definition {
    #[serde(default)]
    required: BTreeSet<String>,
}

impl Upstream {
    pub fn read(modules: Option<&Path>) -> anyhow::Result<Upstream> {
        let conformance = super::root()?.join("conformance");
        let dir = |module: &str| module_dir(modules, &conformance, module);
        let mut arguments = vec![format!("{META}={}", dir("k8s.io/apimachinery")?.join("pkg/apis/meta/v1").display())];
        for (name, module, folder, _) in PACKAGES {
            arguments.push(format!("{name}={}", dir(module)?.join(folder).display()));
        }
        let output = Command::new("go").arg("run").arg("./schema").args(&arguments).current_dir(&conformance).output();
        let output = output.context("cannot run go: install Go, it reads upstream's types")?;
        ensure!(output.status.success(), "conformance/schema failed: {}", String::from_utf8_lossy(&output.stderr));
        let packages: BTreeMap<String, Package> = serde_json::from_slice(&output.stdout)?;
        let swagger = dir("k8s.io/kubernetes")?.join("api/openapi-spec/swagger.json");
        let swagger: Swagger = serde_json::from_slice(&std::fs::read(&swagger).context("cannot read swagger.json")?)?;
        let required = swagger.definitions.into_iter().map(|(name, d)| (name, d.required)).collect();
        let mut upstream = Upstream { structs: BTreeMap::new(), served: served(&swagger.paths), packages, required };
        upstream.structs = upstream.facts();
        Ok(upstream)
    }

    fn facts(&self) -> BTreeMap<String, Vec<FieldFacts>> {
        let mut structs = BTreeMap::new();
        for (name, package) in &self.packages {
            for go in package.types.iter().filter(|go| go.r#struct) {
                let definition = format!("{}.{}", prefix(name), go.name);
                let fields = go.fields.iter().filter_map(|field| self.field(name, &definition, field).transpose());
                // Types that no API object holds may use Go types that we have no shape for.
                if let Ok(fields) = fields.collect() {
                    structs.insert(definition, fields);
                }
            }
        }
        structs
    }

    /// A type by package and name.
    pub fn go_type(&self, package: &str, name: &str) -> Option<&GoType> {
        self.packages.get(package)?.types.iter().find(|t| t.name == name)
    }

    /// The facts of one field; `None` for what is no field in JSON.
    pub fn field(&self, package: &str, definition: &str, field: &GoField) -> anyhow::Result<Option<FieldFacts>> {
        let mut json = field.json.split(',');
        let name = json.next().unwrap_or("");
        let words: Vec<&str> = json.collect();
        let type_meta = field.embedded && field.r#type.ends_with("TypeMeta");
        if name == "-" || type_meta || (name.is_empty() && field.json.is_empty() && !field.embedded) {
            return Ok(None);
        }
        let inline = words.contains(&"inline") || (field.embedded && name.is_empty());
        let shape = self.shape(package, field.r#type.trim_start_matches('*'))?;
        let marker = |wanted: &str| {
            let values = field.markers.iter().filter_map(|m| {
                let (key, value) = m.trim_start_matches('+').split_once('=')?;
                (key.strip_prefix("k8s:").unwrap_or(key) == wanted).then(|| value.trim_matches('"').to_string())
            });
            values.collect::<Vec<String>>()
        };
        let default = match field.markers.iter().find_map(|m| m.strip_prefix("+default=")) {
            None => String::new(),
            Some(value) => match value.strip_prefix("ref(").and_then(|v| v.strip_suffix(')')) {
                None => value.to_string(),
                Some(constant) => self.constant(package, constant)?,
            },
        };
        let mut keys = marker("listMapKey");
        let mut seen = BTreeSet::new();
        keys.retain(|key| seen.insert(key.clone()));
        // Structs that are only ever inlined are not published, so nothing says what they require.
        let required = self.required.get(definition).map(|r| r.contains(name) && !inline);
        let omit = match (words.contains(&"omitempty"), words.contains(&"omitzero")) {
            (_, true) => "zero",
            (true, false) => "empty",
            (false, false) => "never",
        };
        let atomic = marker("mapType").iter().chain(&marker("structType")).any(|value| value == "atomic");
        let strategies: Vec<&str> = field.patch.split(',').filter(|s| matches!(*s, "merge" | "retainKeys")).collect();
        Ok(Some(FieldFacts {
            name: if inline { format!("[{}]", last(&shape)) } else { name.to_string() },
            pointer: field.r#type.starts_with('*'),
            tag: field.protobuf.split(',').nth(1).and_then(|tag| tag.parse().ok()).unwrap_or(0),
            omit: if inline { "never".into() } else { omit.into() },
            required,
            default,
            list: marker("listType").pop().unwrap_or_default(),
            keys,
            atomic,
            patch: format!("{} {}", strategies.join(","), field.merge_key).trim().into(),
            shape,
        }))
    }

    fn constant(&self, package: &str, name: &str) -> anyhow::Result<String> {
        let constants = self.packages[package].consts.values().flatten();
        let found = constants.filter_map(|c| c.split_once('=')).find(|(constant, _)| *constant == name);
        found.map(|(_, value)| value.to_string()).with_context(|| format!("no constant {name}"))
    }

    /// A Go type as text, aliases resolved.
    fn shape(&self, package: &str, go: &str) -> anyhow::Result<String> {
        if go == "[]byte" {
            return Ok("bytes".into());
        }
        if let Some(item) = go.strip_prefix("[]") {
            return Ok(format!("[]{}", self.shape(package, item.trim_start_matches('*'))?));
        }
        if let Some(rest) = go.strip_prefix("map[") {
            let value = rest.split_once(']').map_or("", |(_, value)| value);
            return Ok(format!("map {}", self.shape(package, value)?));
        }
        Ok(match go {
            "string" | "types.UID" | "types.NodeName" => "string".into(),
            "bool" | "int32" | "int64" | "float64" => go.into(),
            "resource.Quantity" => "quantity".into(),
            "intstr.IntOrString" => "intorstring".into(),
            "runtime.RawExtension" => "any".into(),
            _ => return self.named(package, go),
        })
    }

    fn named(&self, package: &str, go: &str) -> anyhow::Result<String> {
        let (package, name) = match go.split_once('.') {
            None => (package, go),
            Some(("metav1", name)) => (META, name),
            Some(("corev1" | "apiv1", name)) => ("core/v1", name),
            Some(("schedulingv1alpha3", name)) => ("scheduling/v1alpha3", name),
            Some(("authenticationv1", name)) => ("authentication/v1", name),
            Some(("v1", name)) if self.go_type("core/v1", name).is_some() => ("core/v1", name),
            Some(("v1", name)) => (META, name),
            Some(_) => bail!("a type of an unknown package: {go}"),
        };
        match (package, name) {
            (META, "Time") => return Ok("time".into()),
            (META, "MicroTime") => return Ok("microtime".into()),
            (META, "Duration") => return Ok("duration".into()),
            (META, "FieldsV1") => return Ok("any".into()),
            ("apiextensions/v1", name) if name == "JSON" || name.starts_with("JSONSchemaPropsOr") => {
                return Ok("any".into());
            }
            _ => {}
        }
        let found = self.go_type(package, name).with_context(|| format!("no type {go}"))?;
        if found.r#struct {
            return Ok(format!("{}.{name}", prefix(package)));
        }
        self.shape(package, &found.underlying)
    }
}

/// The OpenAPI name prefix of a package.
pub fn prefix(package: &str) -> &'static str {
    PACKAGES.iter().find(|(name, ..)| *name == package).map_or(META_PREFIX, |(.., prefix)| prefix)
}

/// Where a module's source lies: in the given cache, or where `go` says.
fn module_dir(cache: Option<&Path>, conformance: &Path, module: &str) -> anyhow::Result<PathBuf> {
    let list = |format: &str| -> anyhow::Result<String> {
        let output = Command::new("go").args(["list", "-m", "-f", format, module]).current_dir(conformance).output()?;
        ensure!(output.status.success(), "go list {module}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_string())
    };
    match cache {
        None => {
            let dir = list("{{.Dir}}")?;
            ensure!(!dir.is_empty(), "{module} is not downloaded: run `go mod download` in conformance/");
            Ok(dir.into())
        }
        Some(cache) => {
            Ok(cache
                .join(format!("{module}@{}", list("{{if .Replace}}{{.Replace.Version}}{{else}}{{.Version}}{{end}}")?)))
        }
    }
}

/// Resources by group version, of stable versions: v1.37 serves no others by default.
fn served(paths: &BTreeMap<String, BTreeMap<String, serde_json::Value>>) -> BTreeMap<String, BTreeSet<String>> {
    let mut served: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in paths.keys() {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (version, rest) = match parts[..] {
            ["api", version, ref rest @ ..] => (version.to_string(), rest),
            ["apis", group, version, ref rest @ ..] => (format!("{group}/{version}"), rest),
            _ => continue,
        };
        let stable = version.rsplit('/').next().is_some_and(|v| !v.contains("alpha") && !v.contains("beta"));
        if !stable || rest.first().is_none_or(|first| *first == "watch") {
            continue;
        }
        let resources = served.entry(version).or_default();
        match rest {
            ["namespaces", "{namespace}", resource] | ["namespaces", "{namespace}", resource, "{name}"] => {
                resources.insert(format!("{resource} (namespaced)"));
            }
            ["namespaces", "{namespace}", resource, "{name}", subresource, ..] => {
                resources.insert(format!("{resource}/{subresource}"));
            }
            [resource, "{name}", subresource, ..] => {
                resources.insert(format!("{resource}/{subresource}"));
            }
            [resource] | [resource, "{name}"] => {
                resources.insert(resource.to_string());
            }
            _ => {}
        }
    }
    for resources in served.values_mut() {
        // A namespaced resource is listed across namespaces too.
        let namespaced: Vec<String> =
            resources.iter().filter_map(|r| r.strip_suffix(" (namespaced)")).map(String::from).collect();
        resources.retain(|resource| !namespaced.contains(resource));
    }
    served
}
