//! OBS Studio as publisher: the real program on a display that exists in memory only.
//!
//! Everything OBS reads is written by the test into a fresh home: a profile with a small canvas and
//! the software encoder, an empty scene, and the marks that keep first-run questions away. It
//! starts to stream by itself and comes back by itself after a second whenever its connection
//! breaks.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::process::Process;
use super::{START, wait_for};

/// A running OBS and its display, ended in this order when dropped.
pub(crate) struct Obs {
    pub(crate) process: Process,
    _display: Process,
}

impl Obs {
    /// Starts OBS, publishing to `rtmp://<server>/<app>` under `key`.
    pub(crate) fn publish(dir: &Path, server: &str, key: &str) -> Self {
        Self::publish_as(dir, server, key, None)
    }

    /// The same with a user and password.
    pub(crate) fn publish_as(
        dir: &Path,
        server: &str,
        key: &str,
        login: Option<Login<'_>>,
    ) -> Self {
        let home = dir.join("obs");
        write_settings(&home, server, key, login);
        let (display, number) = display(dir);
        let mut command = Command::new("obs");
        command.args(["--multi", "--minimize-to-tray", "--startstreaming"]);
        command.args(["--profile", "it", "--collection", "it"]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("LANG", "C.UTF-8");
        command.env("HOME", &home).env("XDG_CONFIG_HOME", home.join("config"));
        command.env("XDG_RUNTIME_DIR", home.join("run")).env("DISPLAY", format!(":{number}"));
        command.env("QT_QPA_PLATFORM", "xcb").env("LIBGL_ALWAYS_SOFTWARE", "1");
        command.env("LP_NUM_THREADS", "1").current_dir(&home);
        let process = Process::start(dir, "obs", &mut command);
        Self { process, _display: display }
    }
}

/// What is typed into the fields of "use authentication".
pub(crate) struct Login<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
}

/// Starts a display on the first free number, which Xvfb itself picks and writes out.
fn display(dir: &Path) -> (Process, u32) {
    let answer = dir.join("xvfb.display");
    let mut command = Command::new("Xvfb");
    command.args(["-displayfd", "1", "-screen", "0", "640x480x24", "-nolisten", "tcp"]);
    let mut process = Process::start_apart(dir, "xvfb", &answer, &mut command);
    let number = wait_for("Xvfb to name its display", START, || {
        process.must_run();
        let written = fs::read_to_string(&answer).ok()?;
        written.strip_suffix('\n')?.trim().parse().ok()
    });
    (process, number)
}

fn write_settings(home: &Path, server: &str, key: &str, login: Option<Login<'_>>) {
    let base = home.join("config/obs-studio");
    let profile = base.join("basic/profiles/it");
    let scenes = base.join("basic/scenes");
    for dir in [&profile, &scenes, &home.join("run")] {
        fs::create_dir_all(dir).expect("the test's directory can be written");
    }
    // Qt refuses a runtime directory that others may read.
    fs::set_permissions(home.join("run"), Permissions::from_mode(0o700)).expect("it is ours");
    let login = login.map_or("\"use_auth\":false".to_owned(), |Login { user, password }| {
        format!("\"use_auth\":true,\"username\":\"{user}\",\"password\":\"{password}\"")
    });
    let service = format!(
        "{{\"type\":\"rtmp_custom\",\"settings\":{{\"server\":\"{server}\",\"key\":\"{key}\",\
         {login}}}}}"
    );
    for (file, text) in [
        (base.join("global.ini"), GLOBAL),
        (profile.join("basic.ini"), PROFILE),
        (profile.join("service.json"), &service),
        (scenes.join("it.json"), SCENES),
    ] {
        fs::write(file, text).expect("the test's directory can be written");
    }
}

const GLOBAL: &str = "\
[General]
FirstRun=true
LastVersion=486539266
InfoIncrement=100
EnableAutoUpdates=false
Pre19Defaults=false
Pre21Defaults=false
Pre23Defaults=false
Pre24.1Defaults=false
[Basic]
Profile=it
ProfileDir=it
SceneCollection=it
SceneCollectionFile=it
ConfigOnNewProfile=false
[BasicWindow]
WarnBeforeStartingStream=false
";

/// A key frame every second, so that the other side sees one soon after each start.
const PROFILE: &str = "\
[General]
Name=it
[Output]
Mode=Simple
Reconnect=true
RetryDelay=1
MaxRetries=30
[SimpleOutput]
VBitrate=500
ABitrate=96
StreamEncoder=x264
Preset=ultrafast
UseAdvanced=true
x264Settings=keyint=20
[Video]
BaseCX=320
BaseCY=180
OutputCX=320
OutputCY=180
FPSType=0
FPSCommon=20
[Audio]
SampleRate=44100
ChannelSetup=Stereo
";

const SCENES: &str = "{\"name\":\"it\",\"current_scene\":\"Scene\",\
\"current_program_scene\":\"Scene\",\"scene_order\":[{\"name\":\"Scene\"}],\
\"sources\":[{\"id\":\"scene\",\"name\":\"Scene\",\"settings\":{\"items\":[]}}]}";
