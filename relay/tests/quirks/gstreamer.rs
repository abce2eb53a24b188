//! GStreamer's own RTMP elements.

use relay::wire::amf::Value;

use crate::support::script::{Script, hex};
use crate::support::server::{CONNECTED, PUBLISHED, check};

#[test]
fn gst_rtmp2sink_is_strict_about_ids_and_the_first_status_and_deletes_by_name() {
    let script = Script::plain()
        .connect(&[
            ("app", Value::text("live")),
            ("type", Value::text("nonprivate")),
            ("flashVer", Value::text("FMLE/3.0 (compatible; FMSc/1.0)")),
            ("tcUrl", Value::text("rtmp://h:1935/live")),
        ])
        .named("releaseStream", 2.0, "s")
        .named("FCPublish", 3.0, "s")
        .create_stream(4.0)
        .call(4, 1, "publish", 5.0, &[Value::Null, Value::text("s"), Value::text("live")])
        .video(0, &hex("17 01 000000"))
        .call(3, 1, "closeStream", 0.0, &[Value::Null])
        .call(3, 0, "deleteStream", 0.0, &[Value::Null, Value::text("s")]);
    let mut said = CONNECTED.to_vec();
    said.extend([
        "3/0 _result 2 null undefined",
        "3/0 _result 3 null undefined",
        "3/0 onFCPublish 0 null {code=NetStream.Publish.Start, description=s}",
        // Never id 0, which it takes for an error.
        "3/0 _result 4 null 1",
        PUBLISHED,
        "5/1 onStatus 0 null {level=status, code=NetStream.Unpublish.Success, \
         description=Stopped publishing}",
    ]);
    let events =
        ["handshake", "connect live", "publish 1 live/s", "KeyFrame 1 5 B", "end publish 1"];
    let mut server = check(&script, &events, &said);
    // On the stream's message stream the first status is the verdict, and says which stream.
    assert_eq!(said.iter().find(|line| line.starts_with("5/1")), Some(&PUBLISHED));
    // A name in place of the id alone ends it too.
    let again = Script::empty().create_stream(6.0).publish(2, "t").named("deleteStream", 0.0, "t");
    server.feed(&again.out).unwrap();
    assert_eq!(server.events.last().unwrap(), "end publish 2");
}
