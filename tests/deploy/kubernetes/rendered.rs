//! What a folder of manifests or the chart comes to, by way of `kubernetes.py`, which validates it.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use serde_json::{Value, json};

use crate::support::{here, programs};

use super::{FOLDER, WHOLE};

/// The objects, and the configs that are in them, read and as they are.
#[derive(Clone)]
pub(super) struct Rendered {
    pub(super) objects: Vec<Value>,
    pub(super) configs: Vec<Value>,
    pub(super) texts: Vec<String>,
}

impl Rendered {
    fn of(said: Output, what: &str) -> Rendered {
        assert!(said.status.success(), "{what}: {}", String::from_utf8_lossy(&said.stderr));
        let mut told: Value = serde_json::from_slice(&said.stdout).unwrap();
        let mut part = |name: &str| told[name].as_array_mut().map(std::mem::take).unwrap();
        Rendered {
            objects: part("objects"),
            configs: part("configs"),
            texts: part("texts").iter().map(|text| text.as_str().unwrap().to_owned()).collect(),
        }
    }

    /// All objects of a kind.
    pub(super) fn all(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The only object of a kind, or the one of this name.
    pub(super) fn one(&self, kind: &str, name: &str) -> &Value {
        let all = self.all(kind);
        let mut named = all.iter().filter(|object| all.len() == 1 || object["metadata"]["name"] == name);
        named.next().unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    /// What the pods of the gateway are made from.
    pub(super) fn pod(&self) -> &Value {
        &self.one("Deployment", "fallgate")["spec"]["template"]["spec"]
    }
}

/// The items of a list; none where there is no list.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// All that can be applied, and what the chart makes by itself; none where it cannot be had, of which everybody is told.
pub(super) fn everything() -> Option<&'static [(String, Rendered)]> {
    static ALL: OnceLock<Option<Vec<(String, Rendered)>>> = OnceLock::new();
    let make = || {
        modules()?;
        let folders = WHOLE.map(|folder| std::thread::spawn(move || Some((folder.to_owned(), built(folder)?))));
        let chart = ("chart".to_owned(), charted(&json!({}))?);
        let all = folders.into_iter().map(|one| one.join().unwrap()).chain([Some(chart)]);
        all.collect()
    };
    ALL.get_or_init(make).as_deref()
}

/// What `kubectl kustomize` makes of a folder that can be applied.
pub(super) fn kustomized(folder: &str) -> Option<Rendered> {
    let (_, rendered) = everything()?.iter().find(|(name, _)| name == folder).unwrap();
    Some(rendered.clone())
}

fn built(folder: &str) -> Option<Rendered> {
    if !programs::is_here("kubectl", &["version", "--client"]) {
        return None;
    }
    let path = here(FOLDER).join(folder);
    Some(Rendered::of(run(&["kustomize", path.to_str().unwrap()])?, folder))
}

/// What Helm makes of the chart with these values.
pub(super) fn charted(values: &Value) -> Option<Rendered> {
    Some(Rendered::of(chart(values)?, "the chart"))
}

/// What Helm says against the chart with these values.
pub(super) fn chart_refused(values: &Value) -> Option<String> {
    let said = chart(values)?;
    assert!(!said.status.success(), "the chart takes {values}");
    Some(String::from_utf8_lossy(&said.stderr).into_owned())
}

fn chart(values: &Value) -> Option<Output> {
    let path = here(FOLDER).join("helm/fallgate");
    run(&["chart", path.to_str().unwrap(), &values.to_string()])
}

/// A YAML file as it is.
pub(super) fn yaml(path: &str) -> Option<Value> {
    let said = run(&["values", here(path).to_str().unwrap()])?;
    assert!(said.status.success(), "{path}: {}", String::from_utf8_lossy(&said.stderr));
    Some(serde_json::from_slice(&said.stdout).unwrap())
}

fn run(arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", modules()?).arg(here("tests/deploy/kubernetes.py")).args(arguments);
    Some(command.stdin(Stdio::null()).output().unwrap())
}

/// The folder of the schemas and of Helm, which is brought once.
fn modules() -> Option<&'static PathBuf> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let bring = || {
        let said = Command::new(here("tests/deploy/get-kubernetes")).stdin(Stdio::null()).output();
        let why = match said {
            Ok(said) if said.status.success() => {
                return Some(PathBuf::from(String::from_utf8(said.stdout).unwrap().trim()));
            }
            Ok(said) => String::from_utf8_lossy(&said.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        assert!(std::env::var_os("CI").is_none(), "{why}");
        // Past the test runner, which would swallow it.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: tests of the manifests for Kubernetes: {why}\n");
        None
    };
    FOLDER.get_or_init(bring).as_ref()
}
