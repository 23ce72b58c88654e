//! A made-up comparison: 24 questions in two languages, five ways, hostile text among the answers.

use hearth_eval::compare::{
    CitationRecord, Comparison, Fact, LossPoint, Preparation, Record, Setup, TrainingCurve, WayKind, compare,
};
use hearth_eval::question::Question;

pub(crate) const HOSTILE: &str =
    "</script><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;<b>\u{202e}";

pub(crate) fn questions() -> Vec<Question> {
    (0..24)
        .map(|index| {
            let (question, answer, source) = match index % 4 {
                0 => (
                    format!("How long does cycle {index} run?"),
                    format!("{} minutes", index + 3),
                    "cycles.md",
                ),
                1 => (format!("第{index}号阀门是什么颜色？"), "青绿色".to_owned(), "阀门/说明.pdf"),
                2 => (format!("Which port does module {index} use?"), format!("PX-{index}"), "ports.html"),
                _ => (format!("模块{index}多久校准一次？"), "每45天".to_owned(), "校准.docx"),
            };
            Question {
                id: format!("q{}", index + 1),
                question,
                answers: vec![answer],
                source: Some(source.to_owned()),
            }
        })
        .collect()
}

/// Right for a share of the questions that depends on the way alone, so the sample never changes.
pub(crate) fn records(questions: &[Question]) -> Vec<Record> {
    let mut records = Vec::new();
    for (index, question) in questions.iter().enumerate() {
        for (way, right_of_24, seconds) in [
            (WayKind::Base, 1, 0.9),
            (WayKind::Prompt, 9, 3.8),
            (WayKind::Rag, 21, 2.1),
            (WayKind::Finetune, 3, 0.7),
            (WayKind::RagFinetune, 18, 1.9),
        ] {
            let is_right = (index * 7 + way as usize * 5) % 24 < right_of_24;
            records.push(record(question, index, way, is_right, seconds));
        }
    }
    records[7].answer = HOSTILE.to_owned();
    records[7].citations.clear();
    records[8].error = Some(format!("context is full: {HOSTILE}"));
    records
}

fn record(question: &Question, index: usize, way: WayKind, is_right: bool, seconds: f64) -> Record {
    let answer = if is_right && way == WayKind::Base {
        question.answers[0].clone()
    } else if is_right {
        format!("According to the document, it is {} [1].", question.answers[0])
    } else if index % 2 == 1 {
        "文档中没有说明。".to_owned()
    } else {
        "I am not sure; it depends on the model and the settings that you have chosen.".to_owned()
    };
    let citation = CitationRecord {
        document: if is_right { question.source.clone().unwrap() } else { "other.md".to_owned() },
        page: (index % 4 == 1).then_some(3),
        heading: (index % 4 != 1).then(|| "Operation > Timing".to_owned()),
        quote: format!("… the value is {} under normal load …", question.answers[0]),
        chunk: format!("c{index}"),
    };
    Record {
        question_id: question.id.clone(),
        way,
        answer,
        citations: if way.cites() { vec![citation] } else { Vec::new() },
        prompt_tokens: if way == WayKind::Prompt { 3000 } else { 60 + 600 * usize::from(way.cites()) },
        cached_tokens: if way == WayKind::Prompt { 2900 } else { 20 },
        completion_tokens: 12 + index % 9,
        seconds: seconds + index as f64 * 0.01,
        cut: (way == WayKind::Prompt).then(|| "41 of 60 chunks did not fit into 4096 tokens".to_owned()),
        error: None,
    }
}

pub(crate) fn setup() -> Setup {
    let point = |step: u64, loss: f64| LossPoint { step, loss };
    Setup {
        name: "valve-manual <draft>".to_owned(),
        documents: 9,
        generated: true,
        model: "sample-0.5b-instruct Q4_K_M".to_owned(),
        embedder: "sample-embedder-small".to_owned(),
        seed: 17,
        notes: vec![
            "24 of 60 questions were asked: the time budget was 15 min".to_owned(),
            format!("`{HOSTILE}.pdf` was not read: no text layer"),
        ],
        retrieval: vec![
            Fact::new("Chunks", "312 of about 180 tokens"),
            Fact::new("Method", "hybrid: BM25 and dense, reciprocal rank fusion"),
            Fact::new("Source among the first 5 passages", "22 of 24 questions"),
        ],
        training: Some(TrainingCurve {
            steps: 60,
            train_loss: (0..60)
                .map(|s| {
                    point(
                        s + 1,
                        0.6 + 2.2 * (-(s as f64) / 18.0).exp() + 0.12 * ((s * 7 % 5) as f64 - 2.0) / 2.0,
                    )
                })
                .collect(),
            validation_loss: (0..7).map(|s| point(s * 10, 0.8 + 1.9 * (-(s as f64) / 2.2).exp())).collect(),
            facts: vec![Fact::new("LoRA rank", "8"), Fact::new("Examples", "180 trained, 20 for validation")],
        }),
        details: vec![Fact::new("Model sha256", "0f3c…"), Fact::new("Temperature", "0")],
        machine: "2 cores, 24 GiB".to_owned(),
        started: "2026-01-02T03:04:05Z".to_owned(),
        seconds: 731.0,
    }
}

pub(crate) fn comparison() -> Comparison {
    let questions = questions();
    let records = records(&questions);
    let preparations = [
        Preparation {
            way: WayKind::Prompt,
            seconds: 38.0,
            note: "documents read into the prompt once".to_owned(),
        },
        Preparation { way: WayKind::Rag, seconds: 21.5, note: "312 chunks embedded".to_owned() },
        Preparation { way: WayKind::Finetune, seconds: 412.0, note: "60 steps of LoRA".to_owned() },
        Preparation { way: WayKind::RagFinetune, seconds: 433.5, note: "index and adapter".to_owned() },
    ];
    compare(questions, &records, &preparations, setup()).unwrap()
}
