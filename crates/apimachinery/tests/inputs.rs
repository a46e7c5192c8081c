//! No input makes a parser panic, and what is written reads back as itself.

use apimachinery::codec::{json, normalize, proto, yaml};
use apimachinery::meta::PartialObjectMetadata;
use apimachinery::{Errors, Map, Quantity, Value, crd, prune, time, validate};
use proptest::prelude::*;

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9:#{}\\[\\],&*!|>'\"%@` \n\t-]{0,12}",
        "\\PC{0,6}",
        Just("true".to_string()),
        Just("~".to_string()),
        "[0-9._eE+-]{1,8}"
    ]
}

fn trees() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        // Whole floats read back as integers.
        (any::<i32>(), 1u32..1000).prop_map(|(a, b)| Value::Float(f64::from(a) + f64::from(b) / 1024.0)),
        texts().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::vec((texts(), inner), 0..4)
                .prop_map(|entries| Value::Map(entries.into_iter().map(|(k, v)| (k.into(), v)).collect::<Map>())),
        ]
    })
}

proptest! {
    #[test]
    fn json_reads_back(tree in trees()) {
        prop_assert_eq!(json::parse(&json::encode_free(&tree)), Ok(tree.clone()));
        prop_assert_eq!(json::parse(&json::indent(&json::encode_free(&tree))), Ok(tree));
    }

    #[test]
    fn yaml_reads_back(tree in trees()) {
        let text = yaml::write(&tree);
        let read = yaml::parse_reporting(text.as_bytes(), &mut Vec::new());
        prop_assert_eq!(read, Ok(tree), "{}", text);
    }

    #[test]
    fn metadata_goes_through_all_encodings(
        name in "[a-z]{1,8}",
        labels in prop::collection::btree_map("[a-z]{1,4}", "\\PC{0,6}", 0..4),
        seconds in -62_135_596_800i64..253_402_300_799,
        generation in any::<i64>(),
    ) {
        let text = |s: &str| Value::from(s);
        let labels: Map = labels.into_iter().map(|(k, v)| (k.into(), Value::from(v))).collect();
        let mut metadata = Map::new();
        metadata.insert("name", text(&name));
        metadata.insert("labels", labels);
        metadata.insert("generation", generation);
        metadata.insert("creationTimestamp", time::rfc3339(seconds));
        let mut tree = Map::new();
        tree.insert("apiVersion", "meta.k8s.io/v1");
        tree.insert("kind", "PartialObjectMetadata");
        tree.insert("metadata", metadata);
        let mut tree = Value::Map(tree);
        let schema = PartialObjectMetadata::schema();
        prop_assert_eq!(normalize(&mut tree, schema), Ok(()));
        prop_assert_eq!(json::parse(&json::encode(&tree, schema)), Ok(tree.clone()));
        let bytes = proto::encode_object(&tree, schema).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(proto::decode_object(&bytes, schema), Ok(tree.clone()));
        let (hollow, at) = json::encode_stored(&tree, schema);
        let whole = [&hollow[..at], &json::version_splice(&hollow, at, 7), &hollow[at..]].concat();
        let whole = json::parse(&whole).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(whole.str_at(&["metadata", "resourceVersion"]), Some("7"));
    }

    #[test]
    fn quantities_read_back(text in "[+-]?[0-9]{1,12}(\\.[0-9]{0,9})?(n|u|m|k|M|G|Ki|Mi|Gi|e[0-9]|E-?[0-9])?") {
        let quantity: Quantity = text.parse().map_err(|_| TestCaseError::fail(text.clone()))?;
        prop_assert_eq!(quantity.to_string().parse::<Quantity>(), Ok(quantity));
    }

    #[test]
    fn durations_read_back(nanos in any::<i64>()) {
        let duration = time::Duration(nanos);
        prop_assert_eq!(time::Duration::parse(&duration.to_string()), Some(duration));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}", short in "[0-9a-zµ.+:TZ-]{0,30}") {
        for text in [&text, &short] {
            let _ = Quantity::parse(text);
            let _ = time::Duration::parse(text);
            let _ = time::parse_rfc3339(text);
            let _ = yaml::parse_reporting(text.as_bytes(), &mut Vec::new());
            let _ = json::parse_strict(text.as_bytes(), PartialObjectMetadata::schema(), &mut Vec::new());
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let schema = PartialObjectMetadata::schema();
        let _ = json::parse(&bytes);
        let _ = yaml::parse_reporting(&bytes, &mut Vec::new());
        let _ = proto::decode_message(&bytes, schema);
        let _ = proto::decode_object(&[b"k8s\0", bytes.as_slice()].concat(), schema);
    }

    #[test]
    fn no_definition_panics(schema in trees(), object in trees()) {
        let root = apimachinery::Path::new("spec");
        crd::check_schema(&schema, true, &root, &mut Errors::new());
        let mut definition = Map::new();
        definition.insert("spec", schema.clone());
        let _ = crd::define(&Value::Map(definition));
        if let Ok(shape) = crd::structural_schema(Some(&schema)) {
            let mut object = object;
            let _ = normalize(&mut object, &shape);
            prune::prune(&mut object, &shape);
            apimachinery::defaults::set_defaults(&mut object, &shape);
            validate::structure(&object, None, &shape, &mut Errors::new());
        }
    }
}
