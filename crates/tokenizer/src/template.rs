//! Runs a model family's published Jinja template, as the `transformers` library does.
//!
//! Templates come with downloaded models, so they run on a budget: instructions, bytes and nesting are bounded, and
//! nothing outside the conversation can be reached. What a template does wrong is an error, never a panic.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, ErrorKind};
use serde::Serialize;

use crate::error::{Error, Result};

mod date;
mod python_json;

pub use date::Date;

/// About this many instructions, or 64 bytes of text each: enough for a thousand messages (tested), and a fraction of
/// a second and 64 MB of a hostile one.
const FUEL: u64 = 1_000_000;
const RECURSION_LIMIT: usize = 200;
const NAME: &str = "chat_template";

#[derive(Debug)]
pub(crate) struct Template {
    environment: Environment<'static>,
    pub(crate) source: String,
}

/// What a template sees beside the messages.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) tools: Value,
    pub(crate) bos_token: String,
    pub(crate) eos_token: String,
    pub(crate) date: Date,
}

impl Template {
    pub(crate) fn compile(source: &str) -> Result<Self> {
        let syntax_error = |source| Error::TemplateSyntax { source: Box::new(source) };
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(syntax_error)?);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION_LIMIT);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, without_generation_tags(source)).map_err(syntax_error)?;
        Ok(Self { environment, source: source.to_owned() })
    }

    pub(crate) fn render(
        &self,
        messages: &[Value],
        around: &Surroundings,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let date = around.date;
        let strftime_now = move |format: &str| date.format(format);
        let context = minijinja::context! {
            messages => messages,
            add_generation_prompt => add_generation_prompt,
            tools => around.tools.clone(),
            documents => (),
            bos_token => around.bos_token.as_str(),
            eos_token => around.eos_token.as_str(),
            strftime_now => Value::from_function(strftime_now),
        };
        let render = || self.environment.get_template(NAME)?.render(context);
        render().map_err(|source: minijinja::Error| Error::TemplateRender {
            num_messages: messages.len(),
            source: Box::new(source),
        })
    }
}

fn raise_exception(message: &str) -> Result<String, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

/// `json.dumps(value, ensure_ascii=False)`: minijinja's own filter escapes HTML and leaves out Python's spaces.
#[expect(clippy::needless_pass_by_value, reason = "minijinja hands options over by value")]
fn to_json(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent = options.get::<Option<usize>>("indent")?.or(indent);
    // Accepted and without effect, as text here is always UTF-8 and order is always the message's.
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut out = Vec::new();
    let written = match indent {
        Some(width) => {
            let spaces = vec![b' '; width.min(16)];
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&spaces);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
        }
        None => value
            .serialize(&mut serde_json::Serializer::with_formatter(&mut out, python_json::PythonFormatter)),
    };
    let failed = |detail: String| minijinja::Error::new(ErrorKind::BadSerialization, detail);
    written.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(out).map_err(|error| failed(error.to_string()))
}

/// Training frameworks mark answers by `{% generation %}`; rendering ignores it, and so does Jinja's own grammar.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        // From behind the `{%`: the percent sign of `{%}` doesn't close the tag as well.
        let Some(len) = rest[start + 2..].find("%}") else {
            break;
        };
        let end = start + 2 + len + 2;
        let inside = &rest[start + 2..end - 2];
        let name = inside.trim_matches(['-', '+']).trim();
        out.push_str(&rest[..start]);
        let replacement = match name {
            "generation" => inside.replacen(name, "if true", 1),
            "endgeneration" => inside.replacen(name, "endif", 1),
            _ => inside.to_owned(),
        };
        out.extend(["{%", &replacement, "%}"]);
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String> {
        let messages = [minijinja::context! { role => "user", content => "<é> \"q\"" }];
        let around = Surroundings {
            tools: Value::from(()),
            bos_token: "<s>".into(),
            eos_token: "</s>".into(),
            date: Date::new(2026, 2, 3),
        };
        Template::compile(source)?.render(&messages, &around, true)
    }

    #[test]
    fn what_templates_use() {
        for (source, expected) in [
            ("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<s><é> \"q\"</s>"),
            ("{{ messages | tojson }}", r#"[{"role": "user", "content": "<é> \"q\""}]"#),
            (
                "{{ {'a': [1, true, none]} | tojson(indent=2) }}",
                "{\n  \"a\": [\n    1,\n    true,\n    null\n  ]\n}",
            ),
            ("{{ messages[0]['content'].strip().split(' ')[1] }}", "\"q\""),
            ("{{ strftime_now('%d %b %Y') }}", "03 Feb 2026"),
            ("{% if tools is none and strftime_now is defined %}yes{% endif %}", "yes"),
            (
                "{%- for m in messages %}\n    {%- generation -%} {{ m.role }} {%- endgeneration %}\n{%- endfor %}",
                "user",
            ),
            ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
            ("  {% if true %}\nx\n  {% endif %}\n", "x\n"),
            (
                "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
                "1",
            ),
        ] {
            assert_eq!(render(source).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn hostile_and_broken_templates_are_errors() {
        for source in [
            "{{ raise_exception('roles must alternate') }}",
            "{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}",
            "{% set ns = namespace(x='aaaa') %}{% for a in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "{{ 'a' * 90000000000 }}",
            "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
            "{% include '/etc/passwd' %}",
            "{{ messages[0].content.nothing.at_all }}",
            "{{ nothing() }}",
            "{% if %}",
            "o f{%} %{% if af",
            "{% for",
        ] {
            assert!(render(source).is_err(), "{source}");
        }
        let message = render("{{ raise_exception('roles must alternate') }}").unwrap_err().to_string();
        assert!(message.contains("roles must alternate"), "{message}");
    }
}
