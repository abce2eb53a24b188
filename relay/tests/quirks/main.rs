//! Every client's habits, as its bytes, against the server session and, where it matters what
//! players get, against a whole worker in memory.
//!
//! One module per family of clients; [`ROWS`] says which tests stand for which client. `selfcheck`
//! and `attacks` go through what a server must stand from anybody, and `independent` lets another
//! implementation speak with ours.

#![allow(clippy::unwrap_used)]

mod attacks;
mod encoders;
mod enhanced;
mod ffmpeg;
mod flash;
mod floods;
mod gstreamer;
mod independent;
mod librtmp;
mod limits;
mod obs;
mod phones;
mod refusals;
mod scanners;
mod selfcheck;
mod servers;
mod support;
mod verdicts;

/// Every client whose habits are known, and its tests: the file, and how their names begin. What
/// is left to another transport is tested with that transport.
const ROWS: &[(&str, &str, &str)] = &[
    ("OBS (all)", "obs", "obs_pipelines"),
    ("OBS < 2024-01-13", "obs", "obs_before_2024"),
    ("OBS < 2024-05-24, librtmp", "obs", "obs_before_may_2024"),
    ("OBS, custom key", "obs", "obs_custom_key"),
    ("OBS multitrack", "obs", "obs_multitrack"),
    ("ffmpeg publish", "ffmpeg", "ffmpeg_publish"),
    ("ffmpeg play", "ffmpeg", "ffmpeg_play"),
    ("ffmpeg end", "ffmpeg", "ffmpeg_end"),
    ("rtmpdump play", "librtmp", "rtmpdump_play"),
    ("VLC, mpv", "librtmp", "vlc_and_mpv"),
    ("GStreamer rtmp2sink", "gstreamer", "gst_rtmp2sink"),
    ("GStreamer rtmpsink (old)", "librtmp", "rtmpsink"),
    ("HaishinKit", "phones", "haishinkit"),
    ("RootEncoder", "phones", "rootencoder"),
    ("StreamPack", "phones", "streampack"),
    ("Wirecast", "encoders", "wirecast"),
    ("FMLE and hardware like it", "encoders", "fmle"),
    ("Haivision", "encoders", "haivision"),
    ("IP cameras", "encoders", "ip_cameras"),
    ("DJI", "phones", "dji"),
    ("DJI: its bytes in the log", "scanners", "dji"),
    // TLS 1.2 with RSA and ECDSA certificates: with TLS.
    ("GoPro", "phones", "gopro"),
    ("ATEM Mini, Streaming Bridge", "scanners", "atem"),
    ("Livestream Studio 6, some hardware", "encoders", "livestream_studio"),
    ("Streamlabs mobile", "phones", "streamlabs_mobile"),
    // Flash over HTTP with its ident2: with RTMPT.
    ("Flash, AIR", "flash", "flash"),
    // The flags of an FLV header: with HTTP-FLV.
    ("ExoPlayer", "flash", "exoplayer"),
    ("srs-bench, SRS as client", "servers", "srs_bench"),
    ("joy4, Restreamer", "servers", "joy4"),
    ("nginx-rtmp as relay source", "servers", "ngx"),
    ("Health checkers", "scanners", "health_checkers"),
    ("Scanners", "scanners", "scanners"),
];

#[test]
fn every_client_has_its_tests() {
    const FILES: &[(&str, &str)] = &[
        ("encoders", include_str!("encoders.rs")),
        ("ffmpeg", include_str!("ffmpeg.rs")),
        ("flash", include_str!("flash.rs")),
        ("gstreamer", include_str!("gstreamer.rs")),
        ("librtmp", include_str!("librtmp.rs")),
        ("obs", include_str!("obs.rs")),
        ("phones", include_str!("phones.rs")),
        ("scanners", include_str!("scanners.rs")),
        ("servers", include_str!("servers.rs")),
    ];
    for (client, file, test) in ROWS {
        let (_, text) = FILES.iter().find(|(name, _)| name == file).unwrap();
        assert!(text.contains(&format!("#[test]\nfn {test}")), "{client}");
    }
    for (file, text) in FILES {
        for line in text.split("#[test]\n").skip(1).filter_map(|rest| rest.lines().next()) {
            let name = line.trim_start_matches("fn ");
            let known = ROWS.iter().any(|(_, of, test)| of == file && name.starts_with(test));
            assert!(known || name.starts_with("an_encoder"), "{file}: {name} stands for nobody");
        }
    }
}
