//! A small world that is made up, so that a recipe runs without anybody's texts: stories, facts and questions about
//! them in English and Chinese, the same for the same seed.
//!
//! Few words and few turns of phrase: a model of some million weights learns the language of it in minutes. Questions
//! of [`World::chats`] and of [`World::questions`] never meet: sums, stories and the pairs of fact and wording that are
//! asked in the end are kept out of what is learned from.

use serde_json::{Value, json};

use crate::random::Random;

/// A word in both languages.
type Word = [&'static str; 2];

const NAMES: [Word; 16] = [
    ["Anna", "小安"],
    ["Ben", "小明"],
    ["Clara", "小丽"],
    ["David", "大卫"],
    ["Emma", "小梅"],
    ["Finn", "小风"],
    ["Grace", "小雨"],
    ["Henry", "小海"],
    ["Iris", "小花"],
    ["Jack", "小杰"],
    ["Lily", "小莉"],
    ["Max", "小马"],
    ["Nora", "小云"],
    ["Oscar", "小石"],
    ["Ruby", "小红"],
    ["Tom", "小童"],
];
const PLACES: [Word; 12] = [
    ["the park", "公园"],
    ["the garden", "花园"],
    ["the school", "学校"],
    ["the market", "市场"],
    ["the forest", "森林"],
    ["the beach", "海边"],
    ["the library", "图书馆"],
    ["the kitchen", "厨房"],
    ["the river", "河边"],
    ["the farm", "农场"],
    ["the station", "车站"],
    ["the hill", "山上"],
];
const COLOURS: [Word; 7] = [
    ["red", "红色"],
    ["blue", "蓝色"],
    ["green", "绿色"],
    ["yellow", "黄色"],
    ["white", "白色"],
    ["black", "黑色"],
    ["brown", "棕色"],
];
const THINGS: [Word; 16] = [
    ["key", "钥匙"],
    ["hat", "帽子"],
    ["ball", "球"],
    ["book", "书"],
    ["cup", "杯子"],
    ["lamp", "灯"],
    ["bag", "包"],
    ["kite", "风筝"],
    ["coat", "外套"],
    ["box", "盒子"],
    ["bell", "铃铛"],
    ["clock", "钟"],
    ["boat", "小船"],
    ["drum", "鼓"],
    ["scarf", "围巾"],
    ["spoon", "勺子"],
];
const FEELINGS: [Word; 6] = [
    ["happy", "高兴"],
    ["sad", "难过"],
    ["tired", "累"],
    ["proud", "自豪"],
    ["surprised", "惊讶"],
    ["calm", "平静"],
];
const GAMES: [Word; 8] = [
    ["played chess", "下了棋"],
    ["sang a song", "唱了歌"],
    ["ate some bread", "吃了面包"],
    ["drank warm milk", "喝了热牛奶"],
    ["looked at the stars", "看了星星"],
    ["told jokes", "讲了笑话"],
    ["flew a kite", "放了风筝"],
    ["drew a picture", "画了画"],
];
const TIMES: [Word; 6] = [
    ["One morning", "一天早上"],
    ["One evening", "一天晚上"],
    ["On a rainy day", "一个下雨天"],
    ["On a sunny day", "一个晴天"],
    ["In winter", "冬天"],
    ["In spring", "春天"],
];
/// What it is, its colour, its kind.
const FACTS: [[Word; 3]; 24] = [
    [["lemon", "柠檬"], ["yellow", "黄色"], ["fruit", "水果"]],
    [["banana", "香蕉"], ["yellow", "黄色"], ["fruit", "水果"]],
    [["cherry", "樱桃"], ["red", "红色"], ["fruit", "水果"]],
    [["strawberry", "草莓"], ["red", "红色"], ["fruit", "水果"]],
    [["cucumber", "黄瓜"], ["green", "绿色"], ["vegetable", "蔬菜"]],
    [["spinach", "菠菜"], ["green", "绿色"], ["vegetable", "蔬菜"]],
    [["tomato", "番茄"], ["red", "红色"], ["vegetable", "蔬菜"]],
    [["potato", "土豆"], ["brown", "棕色"], ["vegetable", "蔬菜"]],
    [["swan", "天鹅"], ["white", "白色"], ["bird", "鸟"]],
    [["crow", "乌鸦"], ["black", "黑色"], ["bird", "鸟"]],
    [["parrot", "鹦鹉"], ["green", "绿色"], ["bird", "鸟"]],
    [["sparrow", "麻雀"], ["brown", "棕色"], ["bird", "鸟"]],
    [["bear", "熊"], ["brown", "棕色"], ["animal", "动物"]],
    [["frog", "青蛙"], ["green", "绿色"], ["animal", "动物"]],
    [["sheep", "绵羊"], ["white", "白色"], ["animal", "动物"]],
    [["whale", "鲸鱼"], ["blue", "蓝色"], ["animal", "动物"]],
    [["rose", "玫瑰"], ["red", "红色"], ["flower", "花"]],
    [["sunflower", "向日葵"], ["yellow", "黄色"], ["flower", "花"]],
    [["lily", "百合"], ["white", "白色"], ["flower", "花"]],
    [["violet", "紫罗兰"], ["blue", "蓝色"], ["flower", "花"]],
    [["snow", "雪"], ["white", "白色"], ["weather", "天气"]],
    [["coal", "煤"], ["black", "黑色"], ["stone", "石头"]],
    [["milk", "牛奶"], ["white", "白色"], ["drink", "饮料"]],
    [["cocoa", "可可"], ["brown", "棕色"], ["drink", "饮料"]],
];

/// One thing that happens: who finds what of whom, where, and how it ends.
#[derive(Debug, Clone, Copy)]
struct Story {
    finder: Word,
    owner: Word,
    thing: Word,
    colour: Word,
    place: Word,
    time: Word,
    feeling: Word,
    game: Word,
    wording: usize,
}

/// Index of a language in a [`Word`].
const ENGLISH: usize = 0;
const CHINESE: usize = 1;

/// A question with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) asked: String,
    pub(crate) answer: String,
    /// What it is about, for a score of its own.
    pub(crate) kind: &'static str,
}

/// The made-up world of a seed.
#[derive(Debug)]
pub(crate) struct World {
    random: Random,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random(seed) }
    }

    /// Texts to pretrain on, as rows with `text`.
    pub(crate) fn texts(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| {
                let language = self.language();
                let parts: Vec<String> = (0..4 + self.random.below(3)).map(|_| self.part(language)).collect();
                parts.join("\n")
            })
            .collect()
    }

    /// Conversations to fine-tune on, as rows with `messages`.
    pub(crate) fn chats(&mut self, count: usize) -> Vec<Value> {
        (0..count)
            .map(|_| {
                let mut messages = Vec::new();
                for _ in 0..=self.random.below(2) {
                    let Question { asked: question, answer, .. } = self.question(false);
                    messages.push(json!({ "role": "user", "content": question }));
                    messages.push(json!({ "role": "assistant", "content": answer }));
                }
                json!({ "messages": messages })
            })
            .collect()
    }

    /// Questions that no conversation holds.
    pub(crate) fn questions(&mut self, count: usize) -> Vec<Question> {
        (0..count).map(|_| self.question(true)).collect()
    }

    fn language(&mut self) -> usize {
        if self.random.below(3) == 0 { CHINESE } else { ENGLISH }
    }

    fn story(&mut self) -> Story {
        let random = &mut self.random;
        let finder = random.of(&NAMES);
        let owner = loop {
            let owner = random.of(&NAMES);
            if owner != finder {
                break owner;
            }
        };
        Story {
            finder,
            owner,
            thing: random.of(&THINGS),
            colour: random.of(&COLOURS),
            place: random.of(&PLACES),
            time: random.of(&TIMES),
            feeling: random.of(&FEELINGS),
            game: random.of(&GAMES),
            wording: random.below(4),
        }
    }

    /// A paragraph of a text.
    fn part(&mut self, language: usize) -> String {
        match self.random.below(10) {
            0 | 1 => self.facts(language),
            2 => self.sums(language),
            _ => tell(&self.story(), language),
        }
    }

    /// A paragraph about some things of the world.
    fn facts(&mut self, language: usize) -> String {
        let lines: Vec<String> = (0..4)
            .map(|_| {
                let [thing, colour, kind] = self.random.of(&FACTS).map(|word| word[language]);
                let wording = self.random.below(2);
                match (language, wording) {
                    (ENGLISH, 0) => format!("The {thing} is {colour}. It is a kind of {kind}."),
                    (ENGLISH, _) => format!("A kind of {kind} is the {thing}. Its colour is {colour}."),
                    (_, 0) => format!("{thing}是{colour}的，它是一种{kind}。"),
                    _ => format!("{thing}是一种{kind}，颜色是{colour}。"),
                }
            })
            .collect();
        lines.join(if language == ENGLISH { " " } else { "" })
    }

    /// Some sums of small numbers, never one of those asked late.
    fn sums(&mut self, language: usize) -> String {
        let lines: Vec<String> = (0..5)
            .map(|_| {
                let (a, b) = self.pair(false);
                match language {
                    ENGLISH => format!("{a} plus {b} is {}.", a + b),
                    _ => format!("{a}加{b}等于{}。", a + b),
                }
            })
            .collect();
        lines.join(if language == ENGLISH { " " } else { "" })
    }

    /// Numbers below ten; one pair in eight is asked late only.
    fn pair(&mut self, asked_late: bool) -> (usize, usize) {
        loop {
            let (a, b) = (self.random.below(10), self.random.below(10));
            if ((a * 10 + b) * 7 % 8 == 3) == asked_late {
                return (a, b);
            }
        }
    }

    fn question(&mut self, asked_late: bool) -> Question {
        let language = self.language();
        match self.random.below(6) {
            0 => {
                let (a, b) = self.pair(asked_late);
                let [question, answer] = match language {
                    ENGLISH => [format!("What is {a} plus {b}?"), format!("{a} plus {b} is {}.", a + b)],
                    _ => [format!("{a}加{b}等于多少？"), format!("{a}加{b}等于{}。", a + b)],
                };
                Question { asked: question, answer, kind: "sum" }
            }
            1 | 2 => self.fact_question(language, asked_late),
            _ => self.reading_question(language),
        }
    }

    fn fact_question(&mut self, language: usize, asked_late: bool) -> Question {
        loop {
            let index = self.random.below(FACTS.len());
            let wording = self.random.below(4);
            // One pair of fact and wording in eight is asked late only: its other wordings are learned.
            if ((index * 4 + wording) * 5 % 8 == 1) != asked_late {
                continue;
            }
            let [thing, colour, kind] = FACTS[index].map(|word| word[language]);
            let [question, answer] = match (language, wording) {
                (ENGLISH, 0) => [format!("What colour is the {thing}?"), format!("The {thing} is {colour}.")],
                (ENGLISH, 1) => {
                    [format!("Which colour has the {thing}?"), format!("The {thing} is {colour}.")]
                }
                (ENGLISH, 2) => [
                    format!("What kind of thing is the {thing}?"),
                    format!("The {thing} is a kind of {kind}."),
                ],
                (ENGLISH, _) => {
                    [format!("What is the {thing}?"), format!("The {thing} is a kind of {kind}.")]
                }
                (_, 0) => [format!("{thing}是什么颜色的？"), format!("{thing}是{colour}的。")],
                (_, 1) => [format!("{thing}的颜色是什么？"), format!("{thing}是{colour}的。")],
                (_, 2) => [format!("{thing}是哪一种东西？"), format!("{thing}是一种{kind}。")],
                _ => [format!("{thing}是什么？"), format!("{thing}是一种{kind}。")],
            };
            return Question { asked: question, answer, kind: "fact" };
        }
    }

    /// A story with a question about it: what is in the text must be found there.
    fn reading_question(&mut self, language: usize) -> Question {
        let story = self.story();
        let [finder, owner, thing, colour, place] =
            [story.finder, story.owner, story.thing, story.colour, story.place].map(|word| word[language]);
        let told = tell(&story, language);
        let [question, answer] = match (language, self.random.below(4)) {
            (ENGLISH, 0) => [format!("Who found the {thing}?"), format!("{finder} found the {thing}.")],
            (ENGLISH, 1) => [format!("Whose {thing} was it?"), format!("It was the {thing} of {owner}.")],
            (ENGLISH, 2) => [format!("What colour was the {thing}?"), format!("The {thing} was {colour}.")],
            (ENGLISH, _) => [format!("Where was the {thing}?"), format!("The {thing} was in {place}.")],
            (_, 0) => [format!("谁找到了{thing}？"), format!("{finder}找到了{thing}。")],
            (_, 1) => [format!("{thing}是谁的？"), format!("{thing}是{owner}的。")],
            (_, 2) => [format!("{thing}是什么颜色的？"), format!("{thing}是{colour}的。")],
            _ => [format!("{thing}在哪里？"), format!("{thing}在{place}。")],
        };
        Question { asked: format!("{told}\n{question}"), answer, kind: "reading" }
    }
}

fn tell(story: &Story, language: usize) -> String {
    let Story { finder, owner, thing, colour, place, time, feeling, game, wording } = *story;
    let [finder, owner, thing, colour, place, time, feeling, game] =
        [finder, owner, thing, colour, place, time, feeling, game].map(|word| word[language]);
    match (language, wording) {
        (ENGLISH, 0) => format!(
            "{time}, {finder} went to {place}. There was a {colour} {thing} on the ground. {finder} asked everybody, and \
             {owner} said, \"It is mine.\" {finder} gave the {thing} back, and {owner} was {feeling}. Then they {game}."
        ),
        (ENGLISH, 1) => format!(
            "{owner} had lost a {colour} {thing}. {time}, {finder} found it in {place}. \"Is this yours?\" asked {finder}. \
             \"Yes, thank you!\" said {owner}, who was {feeling}. After that, the two friends {game}."
        ),
        (ENGLISH, 2) => format!(
            "{time}, {finder} saw something {colour} in {place}. It was a {thing}. Soon {owner} came and looked for it. \
             {finder} held it up, and {owner} laughed and was {feeling}. They {game} until it was late."
        ),
        (ENGLISH, _) => format!(
            "\"Where is my {thing}?\" asked {owner}. It was {colour}, and {owner} had been in {place} with it. {time}, \
             {finder} found it there and brought it home. {owner} was {feeling}, and they {game}."
        ),
        (_, 0) => format!(
            "{time}，{finder}去了{place}。地上有一个{colour}的{thing}。{finder}问了大家，{owner}说：“是我的。”{finder}把{thing}还给了{owner}，\
             {owner}很{feeling}。然后他们一起{game}。"
        ),
        (_, 1) => format!(
            "{owner}丢了一个{colour}的{thing}。{time}，{finder}在{place}找到了它。“这是你的吗？”{finder}问。“是的，谢谢你！”{owner}说，\
             心里很{feeling}。后来两个朋友一起{game}。"
        ),
        (_, 2) => format!(
            "{time}，{finder}在{place}看见一个{colour}的东西，原来是{thing}。不久{owner}来找它，{finder}把它举起来，{owner}笑了，很{feeling}。\
             他们一起{game}，直到很晚。"
        ),
        _ => format!(
            "“我的{thing}在哪里？”{owner}问。它是{colour}的，{owner}带着它去过{place}。{time}，{finder}在那里找到了它，带回了家。\
             {owner}很{feeling}，他们一起{game}。"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_world_depends_on_its_seed_alone() {
        assert_eq!(World::new(1).texts(50), World::new(1).texts(50));
        assert_ne!(World::new(1).texts(50), World::new(2).texts(50));
        assert_eq!(World::new(1).chats(20), World::new(1).chats(20));
    }

    #[test]
    fn what_is_asked_late_is_learned_nowhere() {
        let mut world = World::new(3);
        let mut learned: BTreeSet<String> = BTreeSet::new();
        for chat in world.chats(20_000) {
            for message in chat["messages"].as_array().unwrap() {
                learned.insert(message["content"].as_str().unwrap().to_owned());
            }
        }
        let questions = World::new(4).questions(300);
        let kinds: BTreeSet<&str> = questions.iter().map(|question| question.kind).collect();
        assert_eq!(kinds, BTreeSet::from(["fact", "reading", "sum"]));
        for Question { asked: question, kind, .. } in &questions {
            assert!(!learned.contains(question), "{kind}: {question}");
        }
        let texts = World::new(5).texts(5_000).join("\n");
        let sums = questions.iter().filter(|question| question.kind == "sum");
        for Question { answer, .. } in sums {
            assert!(!texts.contains(&format!(" {answer}")), "{answer}");
        }
    }
}
