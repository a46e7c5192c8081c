//! The configuration file: the same names as the flags; a flag or `SKIFF_*` beats it.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, bail};
use apimachinery::Value;
use clap::parser::ValueSource;

/// Read when it is there and no `--config` names another.
const DEFAULT_FILE: &str = "/etc/skiff/config.yaml";
/// Commands about a daemon, which find in its file what concerns them too.
const READERS: [&str; 4] = ["status", "reset", "backup", "restore"];

/// Adds the settings of the configuration file to the arguments, where neither a flag nor the environment sets them.
///
/// Only subcommands with a `--config` option read a file.
pub fn with_file(arguments: Vec<OsString>, command: clap::Command) -> anyhow::Result<Vec<OsString>> {
    // Whatever is wrong with the arguments is said once, by the caller's own parse.
    let Ok(matches) = command.clone().try_get_matches_from(&arguments) else { return Ok(arguments) };
    let Some((name, matches)) = matches.subcommand() else { return Ok(arguments) };
    let Some(subcommand) = command.find_subcommand(name) else { return Ok(arguments) };
    if !subcommand.get_arguments().any(|a| a.get_id() == "config") || matches.subcommand().is_some() {
        return Ok(arguments);
    }
    let named: Option<&PathBuf> = matches.get_one("config");
    let file = named.cloned().unwrap_or_else(|| DEFAULT_FILE.into());
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => return Ok(arguments),
        Err(error) => return Err(error).context(format!("cannot read the configuration file {}", file.display())),
    };
    let settings = apimachinery::codec::yaml::parse_reporting(text.as_bytes(), &mut Vec::new())
        .with_context(|| format!("{} is not valid YAML", file.display()))?;
    let settings = match settings {
        Value::Null => return Ok(arguments),
        Value::Map(map) => map,
        _ => bail!("{} must hold one key a line, such as `node-name: alpha`", file.display()),
    };
    let mut arguments = arguments;
    for (key, value) in settings.iter() {
        let id = key.replace('-', "_");
        if !subcommand.get_arguments().any(|a| a.get_id() == id.as_str() && a.get_long().is_some()) {
            if READERS.contains(&name) {
                continue;
            }
            bail!("{} sets {key}, which is no option of `skiff {name}`; see `skiff {name} --help`", file.display());
        }
        let given = matches.value_source(&id);
        if matches!(given, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            continue;
        }
        let values = match value {
            Value::List(items) => items.clone(),
            one => vec![one.clone()],
        };
        for value in values {
            match value {
                Value::Bool(true) => arguments.push(format!("--{key}").into()),
                Value::Bool(false) | Value::Null => {}
                Value::String(text) => arguments.push(format!("--{key}={text}").into()),
                Value::Int(number) => arguments.push(format!("--{key}={number}").into()),
                other => bail!("{} sets {key} to a {}, which it cannot be", file.display(), other.type_name()),
            }
        }
    }
    Ok(arguments)
}
