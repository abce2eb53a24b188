// Plays one stream of the relay, says in words why it does not, and goes on by itself when it can.
"use strict";

(() => {
  const element = (id) => document.getElementById(id);
  const video = element("video");
  const path = location.pathname.replace(/^\/watch\//, "").replace(/\/+$/, "");
  const own = new URLSearchParams(location.search);
  const { base, port } = document.body.dataset;

  // What the page looks at again when nothing tells it.
  const STUCK_AFTER_MS = 10000;
  const FACTS_EVERY_MS = 5000;
  const RETRY_MAX_MS = 10000;

  let player = null;
  let retry = 0;
  let retryTimer = 0;
  let moved = { at: 0, time: 0 };

  const choices = {
    get transport() { return element("transport").value; },
    get only() { return element("only").value; },
  };

  // Codecs by the names of the API: what a browser would have to play, or null if the player
  // cannot take them out of FLV.
  const VIDEO = {
    avc: ["H.264", 'video/mp4; codecs="avc1.42E01E"'],
    hevc: ["H.265 (HEVC)", 'video/mp4; codecs="hvc1.1.6.L93.B0"'],
    av1: ["AV1", 'video/mp4; codecs="av01.0.04M.08"'],
    vp9: ["VP9", null],
    vp8: ["VP8", null],
    vvc: ["H.266 (VVC)", null],
    h263: ["Sorenson H.263", null],
    vp6: ["VP6", null],
    screen: ["Screen Video", null],
  };
  const AUDIO = {
    aac: ["AAC", 'audio/mp4; codecs="mp4a.40.2"'],
    mp3: ["MP3", "audio/mpeg"],
    opus: ["Opus", 'audio/mp4; codecs="opus"'],
    flac: ["FLAC", 'audio/mp4; codecs="flac"'],
    speex: ["Speex", null],
    nellymoser: ["Nellymoser", null],
    g711: ["G.711", null],
    adpcm: ["ADPCM", null],
    pcm: ["PCM", null],
    ac3: ["AC-3", null],
    eac3: ["E-AC-3", null],
  };

  const say = (text) => { element("status").textContent = text; };
  const note = (text) => { element("note").textContent = text; element("note").hidden = !text; };
  const curtain = (text) => { element("curtain").textContent = text; element("curtain").hidden = !text; };

  // The same by what stands in a media type, for pages that the API does not answer.
  const IN_TYPES = { hvc1: "hevc", hev1: "hevc", av01: "av1", vp09: "vp9", vvc1: "vvc" };

  // Whether the browser plays a codec that the API names.
  function judge(table, codec) {
    const [name, type] = table[codec] || [codec, null];
    const plays = type !== null && window.MediaSource && MediaSource.isTypeSupported(type);
    return { name, plays: Boolean(plays) };
  }

  function address() {
    const secure = location.protocol === "https:";
    const web = base || `${secure ? "https" : "http"}://${location.hostname}:${port}`;
    const origin = choices.transport === "ws" ? web.replace(/^http/, "ws") : web;
    // What is not for this page is for the relay: a token, for example.
    const query = new URLSearchParams(own);
    query.delete("transport");
    query.delete("only");
    if (choices.only) query.set("only", choices.only);
    const text = query.toString();
    return `${origin}/${path}.flv${text ? `?${text}` : ""}`;
  }

  // What the API knows of the stream; null when it may not be asked from here.
  async function facts() {
    const answer = await fetch(`/api/v1/streams/${path}`, { cache: "no-store" });
    if (answer.status === 404) return { state: "unknown" };
    return answer.ok ? answer.json() : null;
  }

  function stop() {
    clearTimeout(retryTimer);
    if (!player) return;
    const old = player;
    player = null;
    old.destroy();
  }

  function again(text, wait) {
    stop();
    const pause = wait ?? Math.min(1000 * 2 ** retry, RETRY_MAX_MS);
    retry += 1;
    say(`${text} Trying again in ${Math.round(pause / 1000)} s.`);
    retryTimer = setTimeout(start, pause);
  }

  // Ends with a reason that waiting does not change; looks now and then whether the stream did.
  function giveUp(text) {
    stop();
    curtain(text);
    say("Not playing.");
    retryTimer = setTimeout(start, FACTS_EVERY_MS);
  }

  function giveUpVideo(name, audio) {
    const instead = audio ? ", choose audio only," : "";
    giveUp(`The video of this stream is ${name}, which this browser cannot play. ` +
      `Play it with VLC or FFmpeg${instead} or have it published as H.264.`);
  }

  async function start() {
    stop();
    if (!window.mpegts || !mpegts.isSupported()) {
      curtain("This browser cannot play live FLV: it has no Media Source Extensions.");
      say("Not playing.");
      return;
    }
    let known = null;
    try {
      known = await facts();
    } catch {
      again("The relay does not answer.");
      return;
    }
    if (known && (known.state === "unknown" || known.state === "waiting")) {
      curtain("");
      again("Nobody publishes this stream.", 2000);
      return;
    }
    const wants = { video: choices.only !== "audio", audio: choices.only !== "video" };
    const notes = [];
    if (known && known.video && wants.video) {
      const { name, plays } = judge(VIDEO, known.video.codec);
      if (!plays) {
        giveUpVideo(name, Boolean(known.audio));
        return;
      }
    }
    if (known && known.audio && wants.audio) {
      const { name, plays } = judge(AUDIO, known.audio.codec);
      if (!plays) {
        wants.audio = false;
        notes.push(`The audio is ${name}, which this browser cannot play: there is no sound.`);
        if (!wants.video || !known.video) {
          giveUp(`The audio of this stream is ${name}, which this browser cannot play.`);
          return;
        }
      }
    }
    if (known && (known.needs || []).includes("multitrack")) {
      notes.push("This stream has several tracks. Browsers are sent the first one; VLC and FFmpeg " +
        "get all of them with ?extras=1 behind the address.");
    }
    note(notes.join(" "));
    play(wants);
  }

  function play(wants) {
    const source = { type: "flv", isLive: true, cors: true, url: address() };
    if (!wants.audio) source.hasAudio = false;
    if (!wants.video) source.hasVideo = false;
    const mine = mpegts.createPlayer(source, {
      enableWorker: false,
      enableStashBuffer: false,
      liveBufferLatencyChasing: true,
      liveBufferLatencyMaxLatency: 4,
      liveBufferLatencyMinRemain: 1,
      lazyLoad: false,
      autoCleanupSourceBuffer: true,
    });
    player = mine;
    mine.on(mpegts.Events.ERROR, (type, detail, info) => {
      if (player === mine) failed(type, detail, info || {});
    });
    mine.on(mpegts.Events.LOADING_COMPLETE, () => {
      if (player === mine) again("The stream ended.");
    });
    mine.attachMediaElement(video);
    mine.load();
    say("Connecting.");
    curtain("");
    moved = { at: performance.now(), time: -1 };
    const started = mine.play();
    if (started) {
      started.catch(() => { if (player === mine && video.paused) say("Press play to start."); });
    }
  }

  function failed(type, detail, info) {
    const is = mpegts.ErrorDetails;
    if (detail === is.NETWORK_STATUS_CODE_INVALID) {
      const reasons = {
        401: "The relay asks for a token; write ?token=... behind the address of this page.",
        403: "The relay does not let this page play the stream.",
        404: "Nobody publishes this stream.",
        503: "The relay cannot take more players now.",
      };
      again(reasons[info.code] || `The relay refuses with status ${info.code}.`);
    } else if (detail === is.MEDIA_CODEC_UNSUPPORTED || detail === is.MEDIA_MSE_ERROR) {
      const [, type] = /(hvc1|hev1|av01|vp09|vvc1)/.exec(info.msg) || [];
      if (type) giveUpVideo(VIDEO[IN_TYPES[type]][0], true);
      else giveUp(`This browser cannot play what this stream carries (${info.msg || detail}).`);
    } else if (type === mpegts.ErrorTypes.MEDIA_ERROR) {
      again(`The stream cannot be understood (${info.msg || detail}).`);
    } else {
      again("The connection to the stream was lost.");
    }
  }

  // Says how it goes, and starts over when a picture that should move does not.
  function look() {
    if (!player || video.paused) {
      moved.at = performance.now();
      return;
    }
    if (video.currentTime !== moved.time) {
      moved = { at: performance.now(), time: video.currentTime };
      if (video.currentTime > 0) {
        retry = 0;
        const size = video.videoWidth ? `${video.videoWidth} × ${video.videoHeight}` : "audio";
        say(`Live, ${size}${video.muted ? ", sound off" : ""}.`);
      }
    } else if (performance.now() - moved.at > STUCK_AFTER_MS) {
      again("Nothing came for a while.");
    }
  }

  function toLiveEdge() {
    const { buffered } = video;
    if (buffered.length) video.currentTime = Math.max(0, buffered.end(buffered.length - 1) - 0.5);
    video.play().catch(() => {});
  }

  function begin() {
    retry = 0;
    start();
  }

  function key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (/^(SELECT|BUTTON|INPUT)$/.test(event.target.tagName)) return;
    const deeds = {
      " ": () => { if (video.paused) toLiveEdge(); else video.pause(); },
      m: () => { video.muted = !video.muted; },
      f: () => {
        if (document.fullscreenElement) document.exitFullscreen();
        else element("frame").requestFullscreen?.();
      },
      l: toLiveEdge,
      r: begin,
    };
    const deed = deeds[event.key.toLowerCase()];
    if (deed) {
      event.preventDefault();
      deed();
    }
  }

  let name = path;
  try {
    name = decodeURIComponent(path);
  } catch {
    // An address that is none is shown as it is.
  }
  element("name").textContent = name;
  document.title = `${name} – relay`;
  if (own.get("transport") === "ws") element("transport").value = "ws";
  if (["audio", "video"].includes(own.get("only"))) element("only").value = own.get("only");
  if (window.mpegts) mpegts.LoggingControl.enableVerbose = false;
  element("transport").addEventListener("change", begin);
  element("only").addEventListener("change", begin);
  element("again").addEventListener("click", begin);
  document.addEventListener("keydown", key);
  setInterval(look, 1000);
  start();
})();
