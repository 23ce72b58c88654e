//! Answers in every dialect, cut anywhere, give the same pieces.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tools::Choice;

fn marks(template: &str) -> Marks {
    let tool = |name: &str| {
        json!({ "type": "function", "function": { "name": name, "parameters": {
            "type": "object", "properties": {
                "city": { "type": "string" }, "days": { "type": "integer" }, "at": { "type": "object" },
            },
        }}})
    };
    let tools = Tools::new(vec![tool("weather"), tool("time")], Choice::Auto, true).unwrap();
    Marks {
        is_thinking: false,
        has_thinking: true,
        tools: Some((tools, Dialect::of_template(template))),
        call_id: "call_".into(),
    }
}

const CODER: &str = "<tool_call> <function=";
const NAMED: &str = "[TOOL_CALLS] [ARGS]";
const LLAMA_TEMPLATE: &str = "tools {\"name\": x, \"parameters\": y}";

/// Template, answer, its text, its reasoning, its calls.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const CASES: [Case; 31] = [
    ("", "plain", "plain", "", &[]),
    ("", "  indented { \"a\": 1 }", "  indented { \"a\": 1 }", "", &[]),
    ("", "a <tool_cal", "a <tool_cal", "", &[]),
    (
        "",
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bonn }\\\"\", \"n\": {}}}\n</tool_call>",
        "",
        "",
        &[("weather", "{\"city\": \"Bonn }\\\"\", \"n\": {}}")],
    ),
    (
        "",
        "Let me see.\n<tool_call>{\"name\":\"time\",\"arguments\":{}}</tool_call>\n<tool_call>\n{\"name\": \"weather\", \
         \"arguments\": {\"a\": 1}}\n</tool_call>\n",
        "Let me see.",
        "",
        &[("time", "{}"), ("weather", "{\"a\": 1}")],
    ),
    // The other order, which can't be passed on as it comes.
    (
        "",
        "<tool_call>{\"arguments\": {\"a\": 1}, \"name\": \"time\"}</tool_call>",
        "",
        "",
        &[("time", "{\"a\":1}")],
    ),
    // The mark without a call behind it is text.
    ("", "<tool_call> is a mark", "<tool_call> is a mark", "", &[]),
    ("", "<think>\nhm <b>\n</think>\n\nyes", "yes", "hm <b>", &[]),
    ("", "<think>no end", "", "no end", &[]),
    ("", "x <think> y </think>", "x <think> y </think>", "", &[]),
    (
        "",
        "<think>t</think><tool_call>{\"name\": \"time\", \"arguments\": {}}</tool_call>",
        "",
        "t",
        &[("time", "{}")],
    ),
    ("[TOOL_CALLS]", "[TOOL_CALLS] [{\"name\": \"time\", \"arguments\": {}}]", "", "", &[("time", "{}")]),
    (
        "[TOOL_CALLS]",
        "[{\"name\": \"time\", \"arguments\": {}}, {\"name\": \"weather\", \"arguments\": {\"c\": \"x\"}}]",
        "",
        "",
        &[("time", "{}"), ("weather", "{\"c\": \"x\"}")],
    ),
    (LLAMA_TEMPLATE, "{\"name\": \"time\", \"parameters\": {\"z\": 0}}", "", "", &[("time", "{\"z\": 0}")]),
    (
        LLAMA_TEMPLATE,
        "{\"type\": \"function\", \"name\": \"time\", \"parameters\": {}}; {\"name\": \"weather\", \"parameters\": {}}",
        "",
        "",
        &[("time", "{}"), ("weather", "{}")],
    ),
    // Qwen3-Coder's tags: text as it stands, other types by the schema, the first mark or an end forgotten.
    (
        CODER,
        "On it.\n<tool_call>\n<function=weather>\n<parameter=city>\n<b>Bonn\n42</b>\n</parameter>\n<parameter=days>\n3\n\
         </parameter>\n<parameter=at>\n{\"x\": [1]}\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n\
         <function=time>\n</function>\n</tool_call>",
        "On it.",
        "",
        &[("weather", "{\"city\": \"<b>Bonn\\n42</b>\", \"days\": 3, \"at\": {\"x\":[1]}}"), ("time", "{}")],
    ),
    (
        CODER,
        "<function=weather>\n<parameter=city>\n12\n<parameter=days>\nmany\n</parameter>\n</function>\n</tool_call>\nDone",
        "Done",
        "",
        &[("weather", "{\"city\": \"12\", \"days\": \"many\"}")],
    ),
    (CODER, "a < b and <function of x", "a < b and <function of x", "", &[]),
    // The newer form of Mistral, with and without its control tokens.
    (
        NAMED,
        "[TOOL_CALLS]weather[ARGS]{\"city\": \"}\"}[TOOL_CALLS]time[CALL_ID]a1B[ARGS]{}",
        "",
        "",
        &[("weather", "{\"city\": \"}\"}"), ("time", "{}")],
    ),
    (NAMED, "weather{\"days\": 2}time{}", "", "", &[("weather", "{\"days\": 2}"), ("time", "{}")]),
    (NAMED, "weather is fine {today}", "weather is fine {today}", "", &[]),
    (NAMED, "ti", "ti", "", &[]),
    (NAMED, "time", "time", "", &[]),
    // What small models write instead of the mark.
    (
        "",
        "Sure:\n```json\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bonn\"}}\n```",
        "Sure:",
        "",
        &[("weather", "{\"city\": \"Bonn\"}")],
    ),
    (
        "",
        "{\"name\": \"weather\", \"arguments\": {\"city\": \"Bonn\"}}\n{\"name\": \"time\", \"arguments\": {}}",
        "",
        "",
        &[("weather", "{\"city\": \"Bonn\"}"), ("time", "{}")],
    ),
    ("", "{\"name\": \"weather\", \"age\": 3}", "{\"name\": \"weather\", \"age\": 3}", "", &[]),
    (
        "",
        "```json\n{\"name\": \"Ada\", \"arguments\": {}}\n```\nis JSON",
        "```json\n{\"name\": \"Ada\", \"arguments\": {}}\n```\nis JSON",
        "",
        &[],
    ),
    (
        "",
        "```tool_code\nprint(weather(city='Bonn', days=2))\n```",
        "",
        "",
        &[("weather", "{\"city\":\"Bonn\",\"days\":2}")],
    ),
    ("", "```tool_code\ntime()\nweather()", "", "", &[("time", "{}"), ("weather", "{}")]),
    ("", "```tool_code\nx = 1\n```", "```tool_code\nx = 1\n```", "", &[]),
    // JSON that isn't a call of a tool there is stays an answer.
    (LLAMA_TEMPLATE, "{\"name\": \"Ada\", \"age\": 36}", "{\"name\": \"Ada\", \"age\": 36}", "", &[]),
];

fn expected(case: &Case) -> Answer {
    let call = |(index, (name, arguments)): (usize, &(&str, &str))| Call {
        id: format!("call_{index}"),
        name: (*name).into(),
        arguments: (*arguments).into(),
    };
    Answer {
        text: case.2.into(),
        reasoning: case.3.into(),
        calls: case.4.iter().enumerate().map(call).collect(),
    }
}

#[test]
fn answers_are_told_apart() {
    for case in &CASES {
        assert_eq!(Splitter::new(marks(case.0)).whole(case.1), expected(case), "{}", case.1);
    }
}

#[test]
fn where_pieces_begin_and_end_changes_nothing() {
    for case in &CASES {
        for size in 1..8 {
            let mut splitter = Splitter::new(marks(case.0));
            let mut answer = Answer::default();
            let letters: Vec<char> = case.1.chars().collect();
            for piece in letters.chunks(size) {
                splitter
                    .push(&piece.iter().collect::<String>())
                    .into_iter()
                    .for_each(|piece| answer.add(piece));
            }
            splitter.finish().into_iter().for_each(|piece| answer.add(piece));
            assert_eq!(answer, expected(case), "{} in pieces of {size}", case.1);
        }
    }
}

#[test]
fn arguments_come_as_they_are_written() {
    let mut splitter = Splitter::new(marks(""));
    splitter.push("<tool_call>\n{\"name\": \"time\", \"arg");
    let pieces = splitter.push("uments\": {\"zone\": \"Eur");
    let [Piece::Call { name, .. }, Piece::Arguments { text, .. }] = &pieces[..] else { panic!("{pieces:?}") };
    assert_eq!((name.as_str(), text.as_str()), ("time", "{\"zone\": \"Eur"));
}

#[test]
fn an_answer_cut_in_a_call_keeps_what_came() {
    let answer = Splitter::new(marks("")).whole("<tool_call>{\"name\": \"time\", \"arguments\": {\"a\": \"b");
    assert_eq!(answer.calls[0].arguments, "{\"a\": \"b");
}

#[test]
fn a_prompt_that_opens_the_reasoning_is_gone_on_with() {
    let splitter = Splitter::new(Marks { is_thinking: true, ..marks("") });
    let answer = splitter.whole("so it is\n</think>\n\nyes");
    assert_eq!((answer.reasoning.as_str(), answer.text.as_str()), ("so it is", "yes"));
}

proptest! {
    #[test]
    fn no_text_panics_and_any_pieces_give_the_same(
        parts in proptest::collection::vec(prop_oneof![
            Just("<tool_call>"), Just("</tool_call>"), Just("{\"name\": \"time\", \"arguments\": {"), Just("}}"), Just("\""),
            Just("<function=weather>"), Just("<parameter=city>"), Just("</parameter>"), Just("</function>"), Just("```"),
            Just("[TOOL_CALLS]"), Just("[ARGS]"), Just("time"), Just("tool_code"), Just("json"), Just("()"), Just("time{"),
            Just("\\"), Just("<think>"), Just("</think>"), Just("\n"), Just(" x "), Just("[{"), Just("é"), Just(";"),
        ], 0..12),
        template in prop_oneof![
            Just(""), Just("[TOOL_CALLS]"), Just(LLAMA_TEMPLATE), Just(CODER), Just(NAMED),
        ],
    ) {
        let whole = Splitter::new(marks(template)).whole(&parts.concat());
        let mut splitter = Splitter::new(marks(template));
        let mut answer = Answer::default();
        for letter in parts.concat().chars() {
            splitter.push(&letter.to_string()).into_iter().for_each(|piece| answer.add(piece));
        }
        splitter.finish().into_iter().for_each(|piece| answer.add(piece));
        prop_assert_eq!(answer, whole);
    }
}
