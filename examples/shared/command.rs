//! What the examples are as commands: their arguments, and how they end.

use std::error::Error;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use std::str::FromStr;

use lexopt::{Arg, Parser};

/// Why a command does not begin.
pub(crate) enum Instead {
    Help,
    Refused(String),
}

pub(crate) struct Command {
    pub name: &'static str,
    pub help: &'static str,
    /// The arguments, for whoever gave another one.
    pub legal: &'static str,
}

impl Command {
    /// Does `work` with the options that `parse` reads, and says how that went.
    pub(crate) fn run<O>(
        &self,
        parse: impl FnOnce(&mut Arguments) -> Result<O, Instead>,
        work: impl FnOnce(&O) -> Result<(), Box<dyn Error>>,
    ) -> ExitCode {
        let mut arguments = Arguments { parser: Parser::from_env(), name: String::new(), legal: self.legal };
        match parse(&mut arguments) {
            Ok(options) => self.ended(work(&options)),
            Err(Instead::Help) => self.ended(std::io::stdout().write_all(self.help.as_bytes()).map_err(Into::into)),
            Err(Instead::Refused(why)) => {
                eprintln!("{}: {why}", self.name);
                ExitCode::from(2)
            }
        }
    }

    pub(crate) fn ended(&self, result: Result<(), Box<dyn Error>>) -> ExitCode {
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {error}", self.name);
                ExitCode::FAILURE
            }
        }
    }
}

pub(crate) struct Arguments {
    parser: Parser,
    /// Of the latest one.
    name: String,
    legal: &'static str,
}

impl Arguments {
    /// The name of the next one.
    pub(crate) fn next(&mut self) -> Result<Option<&str>, Instead> {
        let refused = |why: lexopt::Error| Instead::Refused(why.to_string());
        self.name = match self.parser.next().map_err(refused)? {
            None => return Ok(None),
            Some(Arg::Long("help") | Arg::Short('h')) => return Err(Instead::Help),
            Some(Arg::Long(name)) => format!("--{name}"),
            Some(Arg::Short(name)) => format!("-{name}"),
            Some(Arg::Value(value)) => value.to_string_lossy().into_owned(),
        };
        Ok(Some(&self.name))
    }

    pub(crate) fn unknown(&self) -> Instead {
        Instead::Refused(format!("unknown argument `{}`: legal are {}", self.name, self.legal))
    }

    /// The value of the latest one; `what` says which it may be.
    pub(crate) fn value(&mut self, what: &str) -> Result<String, Instead> {
        let value =
            self.parser.value().map_err(|_| Instead::Refused(format!("{} needs a value: {what}", self.name)))?;
        Ok(value.to_string_lossy().into_owned())
    }

    pub(crate) fn number<N: FromStr + PartialOrd + Display>(&mut self, least: N, most: N) -> Result<N, Instead> {
        let value = self.value(&format!("a number from {least} to {most}"))?;
        let number = value.parse().ok().filter(|number| (&least..=&most).contains(&number));
        number.ok_or_else(|| {
            let kind = if "0.5".parse::<N>().is_ok() { "number" } else { "whole number" };
            Instead::Refused(format!("{} is `{value}`: must be a {kind} from {least} to {most}", self.name))
        })
    }
}
