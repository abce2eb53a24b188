//! What an overlay of `k8s/` says, as `kubectl` builds and reads it; nothing of it is said again
//! here.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// The objects of an overlay.
pub(crate) struct Manifests(Vec<Value>);

/// A probe of a container, with what Kubernetes takes for what is not said.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) path: String,
    pub(crate) port: u16,
    pub(crate) period: Duration,
    pub(crate) timeout: Duration,
    /// So many failures in a row count.
    pub(crate) failures: u32,
}

/// Where the files of a volume come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    ConfigMap(String),
    Secret(String),
}

/// A folder of files that a container has.
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    pub(crate) path: PathBuf,
    pub(crate) source: Source,
    pub(crate) mode: u32,
}

impl Manifests {
    pub(crate) fn of_overlay(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/overlays").join(name);
        let built = run(Command::new("kubectl").arg("kustomize").arg(&folder), &[]);
        // Each object as JSON, one after the other: without a server kubectl reads and shows them
        // by changing something.
        let mut read = Command::new("kubectl");
        read.args(["annotate", "--local", "--filename=-", "--output=json", "read=again"]);
        let read = run(&mut read, &built);
        let objects = serde_json::Deserializer::from_slice(&read).into_iter();
        let objects: Vec<Value> =
            objects.map(|object| object.expect("kubectl says JSON")).collect();
        assert!(objects.len() > 5, "{} objects", objects.len());
        Self(objects)
    }

    fn find(&self, kind: &str, name: &str) -> &Value {
        let is = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        self.0.iter().find(is).unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    fn set(&self) -> &Value {
        &self.find("StatefulSet", "relay")["spec"]
    }

    fn pod(&self) -> &Value {
        &self.set()["template"]["spec"]
    }

    fn container(&self) -> &Value {
        &self.pod()["containers"][0]
    }

    pub(crate) fn namespace(&self) -> &str {
        text(&self.find("StatefulSet", "relay")["metadata"]["namespace"])
    }

    pub(crate) fn replicas(&self) -> usize {
        usize::try_from(number(&self.set()["replicas"])).unwrap()
    }

    /// Whether pods start, and are scaled, side by side.
    pub(crate) fn is_parallel(&self) -> bool {
        self.set()["podManagementPolicy"] == "Parallel"
    }

    /// Whether names lead to pods that are not ready.
    pub(crate) fn names_unready(&self) -> bool {
        let name = text(&self.set()["serviceName"]);
        self.find("Service", name)["spec"]["publishNotReadyAddresses"] == true
    }

    pub(crate) fn min_ready(&self) -> Duration {
        Duration::from_secs(self.set()["minReadySeconds"].as_u64().unwrap_or(0))
    }

    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs(number(&self.pod()["terminationGracePeriodSeconds"]))
    }

    pub(crate) fn pre_stop(&self) -> Duration {
        let stop = &self.container()["lifecycle"]["preStop"];
        Duration::from_secs(number(&stop["sleep"]["seconds"]))
    }

    /// `drain.window` of the configuration file.
    pub(crate) fn drain_window(&self) -> Duration {
        let files = self.config_map("relay");
        let (_, text) = files.iter().find(|(name, _)| name == "relay.toml").expect("one file");
        let settings: toml::Table = text.parse().expect("the file is TOML");
        let window = settings["drain"]["window"].as_str().and_then(|text| text.strip_suffix('s'));
        Duration::from_secs(window.expect("whole seconds").parse().expect("whole seconds"))
    }

    pub(crate) fn probe(&self, name: &str) -> Probe {
        let probe = &self.container()[name];
        let or = |name: &str, default: u64| probe[name].as_u64().unwrap_or(default);
        Probe {
            path: text(&probe["httpGet"]["path"]).to_owned(),
            port: self.port(text(&probe["httpGet"]["port"])),
            period: Duration::from_secs(or("periodSeconds", 10)),
            timeout: Duration::from_secs(or("timeoutSeconds", 1)),
            failures: u32::try_from(or("failureThreshold", 3)).unwrap(),
        }
    }

    /// The port of the container that has this name.
    pub(crate) fn port(&self, name: &str) -> u16 {
        let ports = self.container()["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == name);
        let port = port.unwrap_or_else(|| panic!("no port {name}"));
        u16::try_from(number(&port["containerPort"])).unwrap()
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        let arguments = self.container()["args"].as_array().unwrap();
        arguments.iter().map(|argument| text(argument).to_owned()).collect()
    }

    /// The container's variables in a pod of this name and zone.
    pub(crate) fn environment(&self, pod: &str, zone: &str) -> Vec<(String, String)> {
        let variable = |variable: &Value| {
            let field = &variable["valueFrom"]["fieldRef"]["fieldPath"];
            let value = match field.as_str() {
                None => text(&variable["value"]),
                Some("metadata.name") => pod,
                Some("metadata.labels['topology.kubernetes.io/zone']") => zone,
                Some(other) => panic!("no field {other}"),
            };
            (text(&variable["name"]).to_owned(), value.to_owned())
        };
        self.container()["env"].as_array().unwrap().iter().map(variable).collect()
    }

    /// As if the group of files were not said.
    pub(crate) fn forget_group(&mut self) {
        let is = |object: &&mut Value| object["kind"] == "StatefulSet";
        let set = self.0.iter_mut().find(is).expect("there is one");
        set["spec"]["template"]["spec"]["securityContext"]["fsGroup"] = Value::Null;
    }

    /// User, group and the group of files.
    pub(crate) fn owners(&self) -> (u32, u32, u32) {
        let of = &self.pod()["securityContext"];
        let id = |name: &str| u32::try_from(of[name].as_u64().unwrap_or(0)).unwrap();
        (id("runAsUser"), id("runAsGroup"), id("fsGroup"))
    }

    pub(crate) fn mounts(&self) -> Vec<Mount> {
        let volumes = self.pod()["volumes"].as_array().unwrap();
        let mount = |mount: &Value| {
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            let (source, of) = if let Some(map) = volume.get("configMap") {
                (Source::ConfigMap(text(&map["name"]).to_owned()), map)
            } else {
                let secret = &volume["secret"];
                (Source::Secret(text(&secret["secretName"]).to_owned()), secret)
            };
            let mode = u32::try_from(of["defaultMode"].as_u64().unwrap_or(0o644)).unwrap();
            Mount { path: text(&mount["mountPath"]).into(), source, mode }
        };
        let mounts = self.container()["volumeMounts"].as_array().unwrap();
        mounts.iter().map(mount).collect()
    }

    /// What the Job that tests a cluster is started with: its arguments, with the client Service's
    /// name and the key filled in, and its scenario.
    pub(crate) fn load_test(&self, service: &str, key: &str) -> (Vec<String>, String) {
        let pod = &self.find("Job", "relay-loadgen")["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(container["env"][0]["name"], "STREAM_KEY");
        self.find("Service", "relay-clients");
        let fill = |argument: &Value| {
            text(argument).replace("relay-clients", service).replace("$(STREAM_KEY)", key)
        };
        let arguments = container["args"].as_array().unwrap().iter().map(fill).collect();
        let mut files = self.config_map(text(&pod["volumes"][0]["configMap"]["name"]));
        (arguments, files.remove(0).1)
    }

    /// The files of a ConfigMap.
    pub(crate) fn config_map(&self, name: &str) -> Vec<(String, String)> {
        let data = self.find("ConfigMap", name)["data"].as_object().unwrap();
        data.iter().map(|(name, value)| (name.clone(), text(value).to_owned())).collect()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Runs a program that ends well; what it says to this input.
fn run(command: &mut Command, input: &[u8]) -> Vec<u8> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("kubectl not found: see .ci/install");
    let mut to = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        scope.spawn(move || to.write_all(input));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{command:?}: {}", output.status);
    output.stdout
}
