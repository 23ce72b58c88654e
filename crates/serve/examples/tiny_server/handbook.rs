//! A handbook of three short documents, searched by counting common words: enough to see citations work.

use std::collections::BTreeSet;

use hearth_serve::{
    Citation, DocumentSummary, Embedded, Embedding, Grounded, Grounding, InputType, Passage, Passages,
};
use hearth_tokenizer::{Conversation, Message, Role};

const PASSAGES: [(&str, &str, Option<u32>, &str, &str); 4] = [
    (
        "kiln/firing.md",
        "Firing the kiln",
        None,
        "Temperatures",
        "The Aldra kiln fires earthenware at 1040 °C.\nStoneware needs 1230 °C and a holding time of 25 minutes. \
         Open the vent until the cone bends, then close it slowly.",
    ),
    (
        "kiln/firing.md",
        "Firing the kiln",
        None,
        "Cooling",
        "Let the kiln cool below 80 °C before the door is opened. A thermal shock cracks the glaze, \
         and the warranty doesn't cover it.",
    ),
    (
        "service/warranty.pdf",
        "Warranty and prices",
        Some(3),
        "Duration",
        "The warranty lasts 42 months from the day of delivery. Heating wires are wear parts and excluded.",
    ),
    (
        "安全须知.md",
        "安全须知",
        None,
        "通风",
        "烧制期间房间须保持通风，每小时换气不少于六次。窑门温度高于八十度时不得开启。",
    ),
];

/// Passages by id: their index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handbook;

impl Passages for Handbook {
    fn passage(&self, id: &str) -> Option<Passage> {
        let index: usize = id.parse().ok()?;
        let (document, title, page, heading, text) = *PASSAGES.get(index)?;
        let neighbour = |index: Option<usize>| {
            let index = index.filter(|index| PASSAGES.get(*index).is_some_and(|other| other.0 == document));
            index.map(|index| index.to_string())
        };
        Some(Passage {
            id: id.into(),
            document: document.into(),
            title: title.into(),
            page,
            heading: Some(heading.into()),
            text: text.into(),
            previous: neighbour(index.checked_sub(1)),
            next: neighbour(Some(index + 1)),
        })
    }

    fn documents(&self) -> Vec<DocumentSummary> {
        let mut documents: Vec<DocumentSummary> = Vec::new();
        for (document, title, ..) in PASSAGES {
            match documents.last_mut().filter(|last| last.document == document) {
                Some(last) => last.num_passages += 1,
                None => documents.push(DocumentSummary {
                    document: document.into(),
                    title: title.into(),
                    num_passages: 1,
                }),
            }
        }
        documents
    }
}

impl Grounding for Handbook {
    /// Puts the two passages with the most words of the question in front of it, and cites both.
    fn ground(&self, conversation: &Conversation, _max_prompt_tokens: usize) -> Result<Grounded, String> {
        let mut conversation = conversation.clone();
        let last = conversation.messages.iter_mut().rfind(|message| message.role == Role::User);
        let question = last.ok_or("the conversation holds no question")?;
        assert_ne!(question.content, "panic", "a question that breaks the search");
        let wanted = words(&question.content);
        let mut found: Vec<usize> = (0..PASSAGES.len()).collect();
        found.sort_by_key(|&index| std::cmp::Reverse(words(PASSAGES[index].4).intersection(&wanted).count()));
        found.truncate(2);
        let passages: Vec<&str> = found.iter().map(|&index| PASSAGES[index].4).collect();
        *question = Message::user(format!("{}\n\n{}", passages.join("\n"), question.content));
        Ok(Grounded { conversation, cite: Box::new(move |answer| cite(&found, answer)) })
    }
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 2).map(str::to_lowercase).collect()
}

/// The first sentence of each passage, marked in the middle and at the end of the answer.
fn cite(found: &[usize], answer: &str) -> Vec<Citation> {
    let num_chars = answer.chars().count();
    let citation = |(place, &index): (usize, &usize)| {
        let (document, title, page, heading, text) = PASSAGES[index];
        let end = text
            .find(['.', '。'])
            .map_or(text.len(), |at| at + text[at..].chars().next().map_or(0, char::len_utf8));
        Citation {
            index: place + 1,
            document: document.into(),
            title: title.into(),
            page,
            heading: Some(heading.into()),
            chunk: index.to_string(),
            quote: text[..end].into(),
            marks: vec![num_chars * (place + 1) / found.len()],
        }
    };
    found.iter().enumerate().map(citation).collect()
}

impl Embedding for Handbook {
    fn name(&self) -> &'static str {
        "letters"
    }

    /// How often each letter occurs; questions carry a mark in the last place.
    fn embed(&self, texts: &[&str], input_type: InputType) -> Result<Embedded, String> {
        let vector = |text: &&str| {
            let mut vector = vec![0.0; 27];
            for letter in text.bytes().filter(u8::is_ascii_lowercase) {
                vector[usize::from(letter - b'a')] += 0.5;
            }
            vector[26] = if input_type == InputType::Query { 1.0 } else { 0.0 };
            vector
        };
        Ok(Embedded {
            vectors: texts.iter().map(vector).collect(),
            num_tokens: texts.iter().map(|text| text.len()).sum(),
        })
    }
}
