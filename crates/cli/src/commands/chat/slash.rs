//! What a line that begins with `/` asks for.

use std::path::PathBuf;

pub(super) const HELP: &str = "\
/clear                 begin anew; the system text stays
/system TEXT           what the model is told before the conversation; nothing takes it away
/file PATH             send a file with the next message (text, Markdown, HTML, PDF, DOCX)
/save FILE, /load FILE keep this conversation, go on with another
/set temperature 0.7   change how answers are drawn, or max_tokens
/exit                  leave, as does Ctrl-D
A line that ends in a backslash goes on in the next. Ctrl-C stops an answer.";

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slash {
    Help,
    Clear,
    Save(PathBuf),
    Load(PathBuf),
    File(PathBuf),
    System(String),
    Set(String, String),
    Exit,
}

impl Slash {
    /// `None` is no command but something to say; a path like `/etc/hosts` is one as long as it is the first word.
    pub(super) fn parse(line: &str) -> Option<Result<Self, String>> {
        let line = line.trim();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let name = name.strip_prefix('/')?;
        let rest = rest.trim();
        if name.contains('/') {
            return None;
        }
        let path = || match rest {
            "" => Err(format!("`/{name}` needs the path of a file")),
            path => Ok(PathBuf::from(path)),
        };
        Some(match name {
            "help" | "?" => Ok(Self::Help),
            "clear" => Ok(Self::Clear),
            "save" => path().map(Self::Save),
            "load" => path().map(Self::Load),
            "file" => path().map(Self::File),
            "system" => Ok(Self::System(rest.into())),
            "set" => match rest.split_once(char::is_whitespace) {
                Some((name, value)) => Ok(Self::Set(name.into(), value.trim().into())),
                None => Err("`/set` needs a name and a value, `/set temperature 0.7` say".into()),
            },
            "exit" | "quit" => Ok(Self::Exit),
            _ => Err(format!("`/{name}` isn't a command; /help lists them")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_from_commands() {
        let path = |text: &str| PathBuf::from(text);
        for (line, expected) in [
            ("what is /set?", None),
            ("/etc/hosts is what?", None),
            ("", None),
            ("/help", Some(Ok(Slash::Help))),
            ("  /clear  ", Some(Ok(Slash::Clear))),
            ("/save my talk.json", Some(Ok(Slash::Save(path("my talk.json"))))),
            ("/file  a.pdf ", Some(Ok(Slash::File(path("a.pdf"))))),
            ("/system", Some(Ok(Slash::System(String::new())))),
            ("/system Be brief.", Some(Ok(Slash::System("Be brief.".into())))),
            ("/set top-p 0.9", Some(Ok(Slash::Set("top-p".into(), "0.9".into())))),
            ("/quit", Some(Ok(Slash::Exit))),
            ("/load", Some(Err("`/load` needs the path of a file".into()))),
            ("/frobnicate", Some(Err("`/frobnicate` isn't a command; /help lists them".into()))),
        ] {
            assert_eq!(Slash::parse(line), expected, "{line:?}");
        }
    }
}
