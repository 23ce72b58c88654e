//! Runs a model family's published Jinja template, as the `transformers` library does.
//!
//! Templates come with downloaded models, so they run on a budget: size, instructions, bytes, nesting and time are
//! bounded, and nothing outside the conversation can be reached. What a template does wrong is an error, never a panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, ErrorKind};

use crate::error::{Error, Result};

mod date;
mod python_json;
mod python_text;
mod workers;

pub use date::Date;
use workers::Workers;

/// About this many instructions, or 64 bytes of text each: enough for a thousand messages (tested), and a fraction of
/// a second and 64 MB of a hostile one.
const FUEL: u64 = 1_000_000;
const RECURSION_LIMIT: usize = 200;
/// Ten times the longest published template. An expression like `1+1+1…` is compiled by recursion, as deep as it is long.
const MAX_SOURCE_BYTES: usize = 256 << 10;
/// Room for a step of that recursion, more than any takes without optimisation.
const STACK_BYTES_PER_BYTE: usize = 2 << 10;
const MIN_STACK_BYTES: usize = 4 << 20;
/// Room for taking apart a list in a list in a list, as deep as the instructions allow (about 200 000); of these bytes
/// only those are used that a template comes to need.
const DEEP_STACK_BYTES: usize = 512 << 20;
/// A thousand messages take a twentieth of a second. Fuel doesn't count the items of lists in lists that are compared,
/// so lists that hold one another many times over are bounded by time alone.
const TIME_LIMIT: Duration = Duration::from_secs(5);
const NAME: &str = "chat_template";

#[derive(Debug)]
pub(crate) struct Template {
    environment: Arc<Environment<'static>>,
    pub(crate) source: String,
    workers: Workers,
    /// Whether it once took longer than that. Its thread can't be stopped, so it isn't given another.
    has_hung: AtomicBool,
}

/// What a template sees beside the messages.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) tools: Value,
    pub(crate) bos_token: String,
    pub(crate) eos_token: String,
    pub(crate) date: Date,
    /// What the caller adds by name (`enable_thinking`).
    pub(crate) variables: Value,
}

impl Template {
    pub(crate) fn compile(source: &str) -> Result<Self> {
        let num_bytes = source.len();
        if num_bytes > MAX_SOURCE_BYTES {
            return Err(Error::TemplateLength { num_bytes, limit: MAX_SOURCE_BYTES });
        }
        let owned = without_generation_tags(source);
        let stack_bytes = MIN_STACK_BYTES + num_bytes * STACK_BYTES_PER_BYTE;
        let compiled = Workers::new(stack_bytes, TIME_LIMIT).run(move || environment(owned))?;
        let environment = compiled.map_err(|source| Error::TemplateSyntax { source: Box::new(source) })?;
        // Without a namespace no value outlives a turn of a loop to be put into another.
        let stack_bytes = if source.contains("namespace") { DEEP_STACK_BYTES } else { stack_bytes };
        Ok(Self {
            environment: Arc::new(environment),
            source: source.to_owned(),
            workers: Workers::new(stack_bytes, TIME_LIMIT),
            has_hung: AtomicBool::new(false),
        })
    }

    pub(crate) fn render(
        &self,
        messages: &[Value],
        around: &Surroundings,
        add_generation_prompt: bool,
    ) -> Result<String> {
        if self.has_hung.load(Ordering::Relaxed) {
            return Err(self.workers.late());
        }
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
            ..around.variables.clone()
        };
        // The context is dropped in here, too: what a template has nested is taken apart by recursion.
        let environment = Arc::clone(&self.environment);
        let rendered = self.workers.run(move || environment.get_template(NAME)?.render(context));
        if matches!(rendered, Err(Error::TemplateTime { .. })) {
            self.has_hung.store(true, Ordering::Relaxed);
        }
        rendered?.map_err(|source: minijinja::Error| Error::TemplateRender {
            num_messages: messages.len(),
            source: Box::new(source),
        })
    }
}

fn environment(source: String) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax?);
    // Otherwise an error keeps the values around it.
    environment.set_debug(false);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_LIMIT);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", to_json);
    environment.add_filter("string", |value: &Value| python_text::text(value));
    environment.add_filter("join", join);
    // For minijinja none is an empty list, for Python nothing to go through; an undefined value is empty in both.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.set_formatter(|out, _, value| {
        out.write_str(&python_text::text(value)?).map_err(|_| ErrorKind::WriteFailure.into())
    });
    environment.add_template_owned(NAME, source)?;
    Ok(environment)
}

fn raise_exception(message: &str) -> Result<String, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

/// `json.dumps` without ASCII escapes: minijinja's own filter escapes HTML and leaves out Python's spaces.
#[expect(clippy::needless_pass_by_value, reason = "minijinja hands options over by value")]
fn to_json(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent = options.get::<Option<usize>>("indent")?.or(indent);
    let separators: Option<Vec<String>> = options.get("separators")?;
    let separators = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some(other) => {
            let detail = format!("`separators` are two texts, not {}", other.len());
            return Err(minijinja::Error::new(ErrorKind::InvalidOperation, detail));
        }
    };
    let json = python_json::Options {
        indent,
        separators,
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    let failed =
        |error: serde_json::Error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string());
    python_text::check_size(value)?;
    serde_json::to_value(value).and_then(|value| json.to_string(value)).map_err(failed)
}

fn join(value: &Value, between: Option<&str>) -> Result<String, minijinja::Error> {
    let between = between.unwrap_or_default();
    let mut out = String::new();
    for (index, item) in value.try_iter()?.enumerate() {
        out.push_str(if index == 0 { "" } else { between });
        out.push_str(&python_text::text(&item)?);
        if out.len() > python_text::MAX_BYTES {
            return Err(ErrorKind::OutOfFuel.into());
        }
    }
    Ok(out)
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
            variables: minijinja::context! { extra => true },
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
            ("{{ extra }} {{ [extra, 1.0] }}", "True [True, 1.0]"),
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
            "{% set ns = namespace(x=[]) %}{% for a in range(9999) %}{% for b in range(9) %}{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}{{ ns.x }}",
            "{% set ns = namespace(x=[]) %}{% for a in range(9999) %}{% for b in range(9) %}{% set ns.x = {'k': ns.x} %}{% endfor %}{% endfor %}{{ ns.x | tojson }}",
            "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
            "{% include '/etc/passwd' %}",
            "{{ messages[0].content.nothing.at_all }}",
            "{{ nothing() }}",
            "{% if %}",
            "o f{%} %{% if af",
            "{% for",
            "{% set l = range(90000) | list %}{{ l | join(l | join) }}",
            "{% set s = 'x' * 60000 %}{{ [s] * 90000 }}",
            "{% set s = 'x' * 60000 %}{{ [s] * 90000 | tojson }}",
        ] {
            assert!(render(source).is_err(), "{source}");
        }
        let filters = ["", " | string", " | tojson", " | join", " | join | length"];
        for filter in filters {
            let source = format!("{LISTS_OF_ONE_ANOTHER}{{{{ ns.x{filter} }}}}");
            assert!(render(&source).is_err(), "{filter}");
        }
        let message = render("{{ raise_exception('roles must alternate') }}").unwrap_err().to_string();
        assert!(message.contains("roles must alternate"), "{message}");
    }

    /// 2⁵⁰ empty lists to whoever walks over them, and fifty in memory.
    const LISTS_OF_ONE_ANOTHER: &str =
        "{% set ns = namespace(x=[]) %}{% for i in range(50) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";

    #[test]
    fn expressions_as_long_as_a_template_may_be_take_no_more_than_the_stack() {
        for (start, step, end) in [
            ("{{ 1", "+1", " }}"),
            ("{{ ", "-", "1 }}"),
            ("{{ ", "not ", "1 }}"),
            ("{{ a", ".b", " }}"),
            ("{{ 1", "|string", " }}"),
            ("{{ 1", " and 1", " }}"),
            ("{% if a %}", "{% elif a %}", "{% endif %}"),
            ("{% set a = [] %}", "{% set a = [a] %}", "x"),
        ] {
            let steps = (MAX_SOURCE_BYTES - start.len() - end.len()) / step.len();
            let source = [start, &step.repeat(steps), end].concat();
            // Some are refused by their depth, some run out of instructions, some render.
            let _ = render(&source);
            let longer = [start, &step.repeat(steps + 1), end].concat();
            assert!(matches!(render(&longer), Err(Error::TemplateLength { .. })), "{step}");
        }
    }

    #[test]
    fn a_template_that_hangs_is_an_error_and_runs_only_once() {
        let lists = LISTS_OF_ONE_ANOTHER;
        let source = format!("{lists}{{% set a = ns.x %}}{lists}{{{{ ns.x == a }}}}");
        let mut template = Template::compile(&source).unwrap();
        template.workers.time_limit = Duration::from_secs(1);
        let around = Surroundings {
            tools: Value::from(()),
            bos_token: String::new(),
            eos_token: String::new(),
            date: Date::new(2026, 2, 3),
            variables: Value::from(()),
        };
        let message = template.render(&[], &around, true).unwrap_err().to_string();
        assert!(message.contains("took more than 1 s"), "{message}");
        template.workers.time_limit = Duration::from_hours(1);
        assert!(matches!(template.render(&[], &around, true), Err(Error::TemplateTime { .. })));
    }
}
