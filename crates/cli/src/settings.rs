//! Settings from TOML files and from `--set key=value`, dots between the tables' names.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use toml::{Table, Value};

/// A file's table.
pub(crate) fn read(path: &Path) -> Result<Table> {
    let text = fs_err::read_to_string(path)?;
    text.parse().with_context(|| format!("`{}` isn't valid TOML", path.display()))
}

/// Puts settings of the command line into a table. What isn't a value of TOML is a text: `--set decay=wsd`.
pub(crate) fn set(table: &mut Table, settings: &[String]) -> Result<()> {
    for setting in settings {
        let Some((key, text)) = setting.split_once('=') else {
            bail!("`--set {setting}` isn't KEY=VALUE");
        };
        let parsed =
            format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
        let value = parsed.unwrap_or_else(|| text.into());
        let mut place = &mut *table;
        let (tables, name) = match key.trim().rsplit_once('.') {
            Some((tables, name)) => (tables.split('.').collect(), name),
            None => (Vec::new(), key.trim()),
        };
        for part in tables {
            let inner = place.entry(part).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(inner) = inner else {
                bail!("`--set {setting}`: `{part}` is a value, not a table");
            };
            place = inner;
        }
        place.insert(name.into(), value);
    }
    Ok(())
}

/// Files that a file names lie beside it.
pub(crate) fn beside(folder: &Path, table: &mut Table, names: &[&str]) {
    for name in names {
        if let Some(Value::String(path)) = table.get_mut(*name) {
            *path = folder.join(&*path).to_string_lossy().into_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_reach_into_tables_and_texts_need_no_quotes() {
        let mut table: Table = "seed = 1\n[pretrain]\ndepth = 4".parse().unwrap();
        let settings = ["seed=2", "pretrain.depth=6", "pretrain.decay=wsd", "sft.epochs=1.5", "list=[1, 2]"];
        set(&mut table, &settings.map(str::to_owned)).unwrap();
        let expected = "seed = 2\nlist = [1, 2]\n[pretrain]\ndepth = 6\ndecay = \"wsd\"\n[sft]\nepochs = 1.5";
        assert_eq!(table, expected.parse().unwrap());
        assert!(set(&mut table, &["seed.a=1".into()]).unwrap_err().to_string().contains("`seed` is a value"));
        assert!(set(&mut table, &["seed".into()]).unwrap_err().to_string().contains("isn't KEY=VALUE"));
    }
}
