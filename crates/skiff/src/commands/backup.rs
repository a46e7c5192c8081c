//! `skiff backup` and `skiff restore`: a cluster in one encrypted file, and back.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use pki::vault::{Secret, Stretch};

use crate::{backup, folder, storage};

/// What opens and closes a backup.
#[derive(clap::Args, Clone, Debug)]
pub struct SecretOptions {
    /// Read the passphrase from the first line of this file (default: ask for it).
    #[arg(long, env = "SKIFF_PASSPHRASE_FILE", value_name = "FILE", conflicts_with = "key_file")]
    passphrase_file: Option<PathBuf>,
    /// Use the key in this file instead of a passphrase: 64 hexadecimal digits, as `openssl rand -hex 32` writes them.
    #[arg(long, env = "SKIFF_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// The shortest passphrase that a backup is sealed with.
const LEAST: usize = 8;

impl SecretOptions {
    fn read(&self, new: bool) -> anyhow::Result<Secret> {
        let text =
            |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        if let Some(path) = &self.key_file {
            return Secret::from_hex(text(path)?.trim()).with_context(|| format!("{} holds no key", path.display()));
        }
        let words = match &self.passphrase_file {
            Some(path) => text(path)?.lines().next().unwrap_or_default().to_owned(),
            None => ask(new)?,
        };
        ensure!(!new || words.len() >= LEAST, "a passphrase needs at least {LEAST} characters");
        Ok(Secret::Passphrase(words))
    }
}

/// Asks for a passphrase on the terminal, without showing it.
fn ask(new: bool) -> anyhow::Result<String> {
    let terminal = std::io::stdin();
    ensure!(terminal.is_terminal(), "name the passphrase with --passphrase-file, or a key with --key-file");
    let prompt = |words: &str| -> anyhow::Result<String> {
        eprint!("{words}: ");
        std::io::stderr().flush()?;
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &quiet)?;
        let mut line = String::new();
        let read = terminal.read_line(&mut line);
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &before)?;
        eprintln!();
        read?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    };
    let words = prompt("passphrase")?;
    if new && prompt("once more")? != words {
        bail!("the two passphrases differ");
    }
    Ok(words)
}

/// Write everything that makes the cluster into one encrypted file; the server may run.
#[derive(clap::Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Backup {
    #[command(subcommand)]
    action: Option<Action>,
    /// The file to write.
    #[arg(required = true)]
    file: Option<PathBuf>,
    #[command(flatten)]
    own: super::DataFolder,
    #[command(flatten)]
    secret: SecretOptions,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Read all of a backup and say whether it can be restored.
    Verify {
        /// The backup.
        file: PathBuf,
        #[command(flatten)]
        secret: SecretOptions,
    },
}

impl Backup {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        super::log();
        if let Some(Action::Verify { file, secret }) = &self.action {
            let manifest = backup::verify(file, &secret.read(false)?, &std::env::temp_dir())?;
            println!("{} is good: {}", file.display(), described(&manifest));
            return Ok(ExitCode::SUCCESS);
        }
        let file = self.file.context("name the file to write")?;
        folder::check_access(&self.own.data_dir)?;
        let secret = self.secret.read(true)?;
        let manifest = super::block_on(async {
            let snapshot = storage::Snapshot::take(&self.own.data_dir).await?;
            backup::write(&self.own.data_dir, snapshot.folder(), &file, &secret, Stretch::default())
        })?;
        println!("{} is written: {}", file.display(), described(&manifest));
        Ok(ExitCode::SUCCESS)
    }
}

fn described(manifest: &backup::Manifest) -> String {
    format!("{} keys at revision {}, by skiff {}", manifest.keys, manifest.revision, manifest.skiff)
}

/// Make an empty data folder the cluster of a backup, or put a checkpoint into the place of a damaged store.
#[derive(clap::Args, Clone, Debug)]
pub struct Restore {
    /// The backup, or the folder of a checkpoint.
    file: PathBuf,
    #[command(flatten)]
    own: super::DataFolder,
    #[command(flatten)]
    secret: SecretOptions,
}

impl Restore {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        super::log();
        folder::check_access(&self.own.data_dir)?;
        if self.file.is_dir() {
            let (aside, revision) = backup::restore_checkpoint(&self.file, &self.own.data_dir)?;
            println!("the checkpoint is in place; the store goes on at revision {revision}");
            if let Some(aside) = aside {
                println!("what was there is kept in {}; remove it when all is well", aside.display());
            }
            return Ok(ExitCode::SUCCESS);
        }
        let (manifest, revision) = backup::restore(&self.file, &self.own.data_dir, &self.secret.read(false)?)?;
        println!("restored {}; the store goes on at revision {revision}", described(&manifest));
        println!("start it with: skiff server --data-dir {}", self.own.data_dir.display());
        Ok(ExitCode::SUCCESS)
    }
}
