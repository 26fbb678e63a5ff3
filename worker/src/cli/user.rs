//! `prosector user`: entries for the file that `api.users_file` names.

use std::io::Read as _;

use anyhow::{Context as _, Result};
use clap::Subcommand;

use super::{Outcome, output};
use crate::api::{Role, hash_password, new_token, token_digest};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print an entry for a person; the password is read from standard input
    Hash {
        /// Name to sign in with
        name: String,
        /// What the person may do
        #[arg(long, value_enum)]
        role: Role,
    },
    /// Print a new token for a program, and the entry that lets it in
    Token {
        /// What the ledger calls the program
        name: String,
        /// What the program may do
        #[arg(long, value_enum)]
        role: Role,
    },
}

pub(super) fn run(command: &Command) -> Result<Outcome> {
    let text = match command {
        Command::Hash { name, role } => {
            let mut password = String::new();
            std::io::stdin().read_to_string(&mut password).context("read the password")?;
            let hash = hash_password(password.trim_end_matches(['\r', '\n']))?;
            format!(
                "[[user]]\nname = {name:?}\nrole = \"{}\"\npassword_hash = \"{hash}\"\n",
                role.as_str()
            )
        }
        Command::Token { name, role } => {
            let token = new_token()?;
            format!(
                "# Give this to the program, it is not kept: {token}\n[[token]]\nname = {name:?}\nrole = \"{}\"\n\
                 sha256 = \"{}\"\n",
                role.as_str(),
                token_digest(&token)
            )
        }
    };
    output::print(&text)?;
    Ok(Outcome::Done)
}
