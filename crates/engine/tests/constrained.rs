//! Constrained output: whatever is drawn, the text has the shape asked for.

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hearth_engine::{Constraint, Engine, EngineConfig, Error, Finish, Request, Sampling};
    use hearth_kernels::pool::Pool;
    use hearth_model::Model;
    use hearth_testkit::{Scratch, TINY};
    use hearth_tokenizer::TokenId;
    use serde_json::{Value, json};

    const CONFIG: EngineConfig = EngineConfig {
        max_batch: 16,
        prefill_chunk: 64,
        prefix_cache_bytes: 1 << 20,
        ..EngineConfig::new(4096)
    };

    fn engine() -> Engine {
        let folder = Scratch::new("constrained").unwrap();
        TINY.write(&folder).unwrap();
        let pool = Arc::new(Pool::new(1));
        Engine::start(Arc::new(Model::open(&folder, &pool).unwrap()), pool, CONFIG)
    }

    fn stop_ids(engine: &Engine) -> Vec<TokenId> {
        engine.model().chat.stops().to_vec()
    }

    /// Draws with a temperature at which the tiny model hardly prefers anything.
    fn drawn(engine: &Engine, constraint: &Constraint, num: u64) -> Vec<(String, Finish, Vec<TokenId>)> {
        let request = |seed| Request {
            sampling: Sampling { temperature: 8.0, seed, ..Sampling::greedy() },
            constraint: Some(constraint.clone()),
            ..Request::greedy(vec![72, 105, 58], 2000, stop_ids(engine))
        };
        let streams: Vec<_> = (0..num).map(|seed| engine.submit(request(seed)).unwrap()).collect();
        let answers = streams.into_iter().map(|stream| stream.collect().unwrap());
        answers.map(|a| (a.text, a.finish, a.tokens.iter().map(|token| token.id).collect())).collect()
    }

    /// The part of JSON Schema that the schemas below use, from its specification.
    fn fits(value: &Value, schema: &Value) -> bool {
        let has_type = |name: &Value| match name.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.as_f64().is_some_and(|x| x.fract() == 0.0),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            other => panic!("{other}"),
        };
        let schema = schema.as_object().unwrap();
        schema.iter().all(|(key, rule)| match key.as_str() {
            "type" => match rule {
                Value::Array(names) => names.iter().any(has_type),
                name => has_type(name),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "anyOf" => rule.as_array().unwrap().iter().any(|schema| fits(value, schema)),
            "maxLength" => value.as_str().is_none_or(|s| s.chars().count() as u64 <= rule.as_u64().unwrap()),
            "minLength" => value.as_str().is_none_or(|s| s.chars().count() as u64 >= rule.as_u64().unwrap()),
            "minimum" => value.as_f64().is_none_or(|x| x >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|x| x <= rule.as_f64().unwrap()),
            "minItems" => value.as_array().is_none_or(|a| a.len() as u64 >= rule.as_u64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|a| a.len() as u64 <= rule.as_u64().unwrap()),
            "items" => value.as_array().is_none_or(|a| a.iter().all(|item| fits(item, rule))),
            "required" => value.as_object().is_none_or(|object| {
                rule.as_array().unwrap().iter().all(|name| object.contains_key(name.as_str().unwrap()))
            }),
            "properties" => value.as_object().is_none_or(|object| {
                object.iter().all(|(name, value)| rule.get(name).is_none_or(|schema| fits(value, schema)))
            }),
            "additionalProperties" => {
                assert_eq!(rule, &json!(false));
                value
                    .as_object()
                    .is_none_or(|object| object.keys().all(|name| schema["properties"].get(name).is_some()))
            }
            other => panic!("the checker doesn't know `{other}`"),
        })
    }

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "name": { "type": "string", "minLength": 1, "maxLength": 12 },
                "kind": { "enum": ["kiln", "pump", 7, null] },
                "sizes": {
                    "type": "array", "minItems": 1, "maxItems": 3,
                    "items": { "type": "integer", "minimum": -20, "maximum": 300 },
                },
                "more": { "anyOf": [{ "type": "boolean" }, {
                    "type": "object",
                    "properties": { "deep": { "type": ["string", "null"], "maxLength": 4 } },
                    "required": ["deep"],
                    "additionalProperties": false,
                }] },
            },
            "required": ["name", "kind", "sizes"],
            "additionalProperties": false,
        })
    }

    #[test]
    fn two_hundred_wild_answers_fit_their_schema() {
        let engine = engine();
        let answers = drawn(&engine, &Constraint::JsonSchema(schema().to_string()), 200);
        let mut different = 0;
        for (text, finish, ids) in &answers {
            assert_eq!(*finish, Finish::Stop, "{text}");
            let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert!(fits(&value, &schema()), "{text}");
            assert!(ids.iter().all(|&id| !engine.model().tokenizer().is_special(id)));
            different += usize::from(text != &answers[0].0);
        }
        assert!(different > 190, "the draws are wild");
    }

    #[test]
    fn two_hundred_wild_answers_match_their_expression() {
        let engine = engine();
        let pattern = "(the|an?) [a-z]{2,6}( and [A-Z][a-z]*)?: -?[0-9]{1,3}\\.[0-9]{2} (°C|kg|好)";
        let oracle = regex::Regex::new(&format!("^(?:{pattern})$")).unwrap();
        let answers = drawn(&engine, &Constraint::Regex(pattern.into()), 200);
        assert!(answers.iter().all(|(text, finish, _)| oracle.is_match(text) && *finish == Finish::Stop));
        assert!(answers.iter().any(|(text, ..)| text.contains('好')));
    }

    #[test]
    fn wild_answers_follow_their_grammar() {
        let engine = engine();
        let grammar =
            "start: sum\nsum: term (\"+\" term)*\nterm: NUMBER | \"(\" sum \")\"\nNUMBER: /[0-9]{1,3}/\n";
        for (text, finish, _) in drawn(&engine, &Constraint::Grammar(grammar.into()), 60) {
            // Sums may go on for ever; what is there so far is a beginning of one.
            let mut depth = 0_i32;
            let mut before = '+';
            for character in text.chars() {
                let follows = match character {
                    '(' => "+(".contains(before),
                    ')' | '+' => before.is_ascii_digit() || before == ')',
                    digit => digit.is_ascii_digit() && before != ')',
                };
                assert!(follows, "{character:?} behind {before:?}: {text}");
                depth += i32::from(character == '(') - i32::from(character == ')');
                assert!(depth >= 0);
                before = character;
            }
            assert!(finish == Finish::Length || (depth == 0 && before != '+'), "{text}");
        }
    }

    #[test]
    fn any_object_is_an_object() {
        let engine = engine();
        let mut num_whole = 0;
        for (text, finish, _) in drawn(&engine, &Constraint::JsonObject, 40) {
            if finish == Finish::Stop {
                match serde_json::from_str::<Value>(&text) {
                    Ok(value) => assert!(value.is_object(), "{text}"),
                    // JSON sets numbers no limit, its readers do.
                    Err(error) => assert!(error.to_string().contains("out of range"), "{error}: {text}"),
                }
                num_whole += 1;
            }
        }
        assert!(num_whole > 10);
    }

    #[test]
    fn what_fits_anyway_stays_what_it_was() {
        let engine = engine();
        let request = Request { logprobs: Some(4), ..Request::greedy(vec![72, 105], 60, stop_ids(&engine)) };
        let free = engine.generate(request.clone()).unwrap();
        for constraint in [
            Constraint::Regex("(?s:.*)".into()),
            Constraint::Regex(format!("{}(?s:.*)", regex::escape(&free.text[..20]))),
            Constraint::Grammar("start: /(.|\\n)*/".into()),
        ] {
            let bound = engine.generate(Request { constraint: Some(constraint), ..request.clone() }).unwrap();
            assert_eq!(bound.tokens, free.tokens, "ids, texts, log-probabilities and alternatives");
        }
        let other = Constraint::Regex("[0-9]+".into());
        let bound = engine.generate(Request { constraint: Some(other), ..request }).unwrap();
        let (token, unbound) = (&bound.tokens[0], &free.tokens[0]);
        assert_eq!(token.top, unbound.top, "the model's own alternatives");
        assert!(token.logprob < unbound.logprob && token.id != unbound.id);
    }

    #[test]
    fn choices_and_companions_are_bound_each_for_itself() {
        let engine = engine();
        let constraint = Constraint::Regex("[ab]{3,9}[cd]".into());
        let sampling = Sampling { temperature: 3.0, seed: 5, ..Sampling::greedy() };
        let request = Request {
            sampling,
            constraint: Some(constraint),
            ..Request::greedy(vec![72, 105], 60, stop_ids(&engine))
        };
        let free = Request { constraint: None, ..request.clone() };
        let expected = engine.generate(free.clone()).unwrap();
        let (bound, free) = (engine.submit_choices(request.clone(), 8), engine.submit(free));
        assert_eq!(free.unwrap().collect().unwrap().tokens, expected.tokens);
        let bound = bound.unwrap().collect_choices().unwrap();
        let oracle = regex::Regex::new("^[ab]{3,9}[cd]$").unwrap();
        assert!(bound.iter().all(|choice| oracle.is_match(&choice.text) && choice.finish == Finish::Stop));
        assert_eq!(engine.generate(request).unwrap().tokens, bound[0].tokens);
    }

    #[test]
    fn constraints_that_cannot_be_used_say_why() {
        let engine = engine();
        let refused = |constraint: Constraint| {
            let what = format!("{constraint:?}");
            let request =
                Request { constraint: Some(constraint), ..Request::greedy(vec![72], 5, stop_ids(&engine)) };
            match engine.submit(request).err() {
                Some(Error::Constraint { kind, reason }) => format!("{kind}: {reason}"),
                other => panic!("{what:.100}: {other:?}"),
            }
        };
        let cases = [
            (Constraint::JsonSchema("{".into()), "JSON schema: it isn't JSON"),
            (Constraint::JsonSchema("3".into()), "JSON schema: a schema is a JSON object"),
            (Constraint::JsonSchema(r#"{"type": "strnig"}"#.into()), "JSON schema: "),
            (Constraint::JsonSchema(r##"{"$ref": "#/nowhere"}"##.into()), "JSON schema: "),
            (Constraint::Regex("(a".into()), "regular expression: "),
            (Constraint::Grammar("start: nothing".into()), "grammar: "),
            (Constraint::Grammar(String::new()), "grammar: "),
        ];
        for (constraint, expected) in cases {
            let message = refused(constraint);
            assert!(message.starts_with(expected), "{message}");
            assert!(message.len() < 2000, "{message}");
        }
        let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
        assert!(refused(Constraint::JsonSchema(deep)).starts_with("JSON schema: it isn't JSON"));
        assert_eq!(engine.generate(Request::greedy(vec![72], 5, vec![])).unwrap().tokens.len(), 5);
    }
}
