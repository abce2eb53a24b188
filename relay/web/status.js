// Shows a relay, all nodes of its cluster, live: asks the API every two seconds and works out rates from its totals.
"use strict";

(() => {
  const element = (id) => document.getElementById(id);

  const EVERY_MS = 2000;
  const HISTORY_MS = 120000;
  const LOSS_WINDOW_MS = 60000;
  const STREAMS_MAX = 1000;
  const TOKEN = "relay-token";

  let history = [];
  let streamsBefore = new Map();
  let linksBefore = new Map();
  let streams = [];
  let order = { key: "players", up: false };
  let timer = 0;
  let asking = false;
  let heard = 0;

  // ---- what people read

  const number = (value) => value.toLocaleString("en");

  function bits(value) {
    if (value === null || value === undefined || Number.isNaN(value)) return ["–", ""];
    let unit = 0;
    const units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];
    while (value >= 1000 && unit + 1 < units.length) {
      value /= 1000;
      unit += 1;
    }
    const digits = value >= 100 || unit === 0 ? 0 : value >= 10 ? 1 : 2;
    return [value.toFixed(digits), units[unit]];
  }

  const rate = (value) => bits(value).join(" ").trim();

  function span(ms) {
    if (ms === null || ms === undefined) return "–";
    if (ms < 950) return `${Math.round(ms)} ms`;
    if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
    const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
    let rest = Math.round(ms / 1000);
    const said = [];
    for (const [length, unit] of parts) {
      const count = Math.floor(rest / length);
      rest -= count * length;
      if (count > 0 || said.length > 0) said.push(`${count} ${unit}`);
      if (said.length === 2) break;
    }
    return said.join(" ");
  }

  function make(tag, content, name) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    for (const part of [content].flat()) {
      if (part !== null && part !== undefined) made.append(part);
    }
    return made;
  }

  function cell(label, content, name) {
    const made = make("td", content, name);
    made.dataset.label = label;
    return made;
  }

  const pill = (text, mood) => make("span", text, `pill ${mood || ""}`);

  function show(id, yes) { element(id).hidden = !yes; }

  // ---- asking

  class Refused extends Error {
    constructor(status, message) {
      super(message);
      this.status = status;
    }
  }

  function remembered() {
    try {
      return sessionStorage.getItem(TOKEN);
    } catch {
      return null;
    }
  }

  async function get(path) {
    const token = remembered();
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (answer.ok) return answer.json();
    let message = `The relay answers with status ${answer.status}.`;
    try {
      message = (await answer.json()).error.message;
    } catch {
      // An answer that is not the API's own keeps the general words.
    }
    throw new Refused(answer.status, message);
  }

  async function look() {
    clearTimeout(timer);
    if (asking) return;
    asking = true;
    try {
      const [nodes, list, links] = await Promise.all([
        get("/api/v1/nodes?cluster=1"), get(`/api/v1/streams?cluster=1&limit=${STREAMS_MAX}`),
        get("/api/v1/links?cluster=1"),
      ]);
      heard = Date.now();
      show("trouble", false);
      show("ask", false);
      show("shown", true);
      show("forget", Boolean(remembered()));
      take(nodes.items, list, links.items);
      missing([nodes, list, links].flatMap((answer) => answer.absent || []));
    } catch (error) {
      fail(error);
    }
    asking = false;
    tell();
    if (!document.hidden && element("ask").hidden) timer = setTimeout(look, EVERY_MS);
  }

  function fail(error) {
    const trouble = element("trouble");
    if (error instanceof Refused && error.status === 401) {
      const wrong = Boolean(remembered());
      trouble.textContent = "The token is wrong.";
      show("trouble", wrong);
      show("shown", false);
      if (element("ask").hidden) {
        show("ask", true);
        element("token").focus();
      }
      return;
    }
    const words = error instanceof Refused ? error.message : "The relay does not answer.";
    trouble.textContent = `${words}${heard ? " What is shown is old." : ""}`;
    show("trouble", true);
  }

  // Nodes whose part of what is shown is missing.
  function missing(absent) {
    const whys = new Map(absent.map(({ node, why }) => [node, why]));
    const words = [...whys].map(([node, why]) => `Nothing is shown of node ${node}: ${why}.`);
    element("absent").textContent = words.join("\n");
    show("absent", words.length > 0);
  }

  function tell() {
    element("fresh").textContent = heard ? `As of ${new Date(heard).toLocaleTimeString()}, every 2 s` : "";
  }

  // ---- showing

  function take(nodes, list, links) {
    const own = nodes.find((node) => node.own) || nodes[0];
    history.push({ at: own.read_unix_ms, nodes: new Map(nodes.map((node) => [node.node, node])) });
    // A node that started again counts from 0; what was before has nothing to do with it.
    history = history.filter(({ at, nodes }) =>
      own.read_unix_ms - at <= HISTORY_MS &&
      nodes.get(own.node)?.started_unix_ms === own.started_unix_ms);

    element("node").textContent = own.node;
    document.title = `${own.node} – relay`;
    const state = element("state");
    state.textContent = own.state;
    state.className = `pill ${own.state === "running" ? "good" : "warn"}`;
    state.hidden = false;
    element("about").textContent = `relay ${own.version}, up ${span(own.uptime_ms)}`;

    // Nodes that did not answer have no numbers.
    const sum = (key) => nodes.reduce((total, node) => total + (node[key] || 0), 0);
    const there = list.items.filter((stream) => stream.state !== "waiting").length;
    element("streams").textContent = list.next ? `${number(there)}+` : number(there);
    element("publishers").textContent = `${number(sum("publishers"))} publishing` +
      (nodes.length > 1 ? ` on ${number(nodes.length)} nodes` : "");
    element("players").textContent = number(sum("players"));
    const byTransport = new Map();
    for (const stream of list.items) {
      for (const node of stream.nodes) {
        for (const [name, count] of Object.entries(node.transports)) {
          byTransport.set(name, (byTransport.get(name) || 0) + count);
        }
      }
    }
    const spoken = [...byTransport].sort((a, b) => b[1] - a[1]);
    element("transports").textContent = spoken.map(([name, count]) => `${number(count)} ${name}`).join(", ");
    flow("in", "ingest_bytes");
    flow("out", "egress_bytes");

    streams = list.items.map((stream) => row(stream, own.read_unix_ms));
    streamsBefore = new Map(list.items.map((stream) => [`${stream.app}/${stream.name}`, {
      bytes: stream.bytes_out, at: own.read_unix_ms,
    }]));
    const more = element("more");
    more.textContent = `The first ${number(STREAMS_MAX)} by name; there are more.`;
    more.hidden = !list.next;
    showStreams();
    showNodes(nodes);
    showDrops(nodes, own.read_unix_ms);
    showLinks(links, nodes, own.read_unix_ms);
  }

  // Bits a second of a total between two looks.
  function between(before, after, key, name) {
    const one = before.nodes.get(name);
    const two = after.nodes.get(name);
    // By the node's own clock; one that started again counts from 0.
    const passed = one && two ? two.read_unix_ms - one.read_unix_ms : 0;
    if (!(passed > 0) || one.started_unix_ms !== two.started_unix_ms || !(two[key] >= one[key])) return null;
    return (two[key] - one[key]) * 8000 / passed;
  }

  function flow(id, key) {
    const points = [];
    for (let at = 1; at < history.length; at += 1) {
      const [before, after] = [history[at - 1], history[at]];
      points.push([...after.nodes.keys()].reduce((sum, name) => sum + (between(before, after, key, name) || 0), 0));
    }
    const [value, unit] = bits(points.length ? points[points.length - 1] : null);
    element(id).replaceChildren(value, " ", make("span", unit));
    const most = Math.max(1, ...points);
    const slots = HISTORY_MS / EVERY_MS - 1;
    const start = slots - points.length + 1;
    const line = points.map((point, at) =>
      `${((start + at) / slots * 100).toFixed(1)},${(22 - point / most * 20).toFixed(1)}`);
    element(`${id}-line`).firstElementChild.setAttribute("points", line.join(" "));
  }

  function row(stream, at) {
    const name = `${stream.app}/${stream.name}`;
    const before = streamsBefore.get(name);
    const passed = before ? at - before.at : 0;
    const out = passed > 0 && stream.bytes_out >= before.bytes
      ? (stream.bytes_out - before.bytes) * 8000 / passed : null;
    const { video, audio } = stream;
    const media = [];
    if (video) {
      const size = video.height ? ` ${video.width}×${video.height}` : "";
      media.push(`${video.codec}${size}${video.tracks > 1 ? ` ×${video.tracks} tracks` : ""}`);
    }
    if (audio) media.push(`${audio.codec}${audio.tracks > 1 ? ` ×${audio.tracks} tracks` : ""}`);
    return {
      stream, name, out, in: stream.bits_per_second, state: stream.state, players: stream.players,
      picture: media.join(", "), node: stream.node || "", gop: stream.gop_ms, age: stream.uptime_ms,
    };
  }

  function place(stream) {
    const parts = [stream.app, ...stream.name.split("/")].map(encodeURIComponent);
    return `/watch/${parts.join("/")}`;
  }

  function compare(a, b) {
    const [one, two] = [a[order.key], b[order.key]];
    const known = Number(two !== null && two !== undefined) - Number(one !== null && one !== undefined);
    if (known !== 0) return known;
    let by = typeof one === "string" ? one.localeCompare(two) : (one || 0) - (two || 0);
    if (!order.up) by = -by;
    return by || a.name.localeCompare(b.name);
  }

  function showStreams() {
    const wanted = element("filter").value.trim().toLowerCase();
    const shown = streams.filter((entry) => entry.name.toLowerCase().includes(wanted)).sort(compare);
    const moods = { live: "good", grace: "warn", waiting: "" };
    const words = { live: "live", grace: "publisher gone", waiting: "waited for" };
    const late = (entry) => entry.state === "live" && entry.stream.video && entry.stream.last_key_ms > 15000;
    const rows = shown.map((entry) => {
      const { stream } = entry;
      const link = make("a", entry.name);
      link.href = place(stream);
      const several = history[history.length - 1].nodes.size > 1;
      const players = stream.nodes.flatMap((node) => Object.entries(node.transports)
        .map(([name, count]) => `${number(count)} ${name}${several ? ` on ${node.node}` : ""}`)).join(", ");
      const count = cell("Players", number(entry.players), "number");
      if (players) count.title = players;
      const publisher = stream.publisher
        ? `${stream.publisher.peer} ${stream.publisher.client}`.trim() : "";
      const state = cell("", [pill(words[entry.state], moods[entry.state])]);
      if (publisher) state.title = `from ${publisher}`;
      const waits = late(entry) ? `none for ${span(stream.last_key_ms)}` : null;
      const gop = cell("Key frames", waits || span(entry.gop), waits ? "number fresh-loss" : "number");
      return make("tr", [
        cell("Stream", link, "name"), state, count,
        cell("In", rate(entry.in), "number"), cell("Out", rate(entry.out), "number"),
        cell("", entry.picture || "–", "wide"), cell("On", entry.node || "–", "of-node"), gop, cell("Age", span(entry.age), "number"),
      ]);
    });
    fill("stream-rows", rows);
    show("stream-table", rows.length > 0);
    element("stream-table").classList.toggle("single", !(history[history.length - 1]?.nodes.size > 1));
    const none = element("no-streams");
    none.textContent = streams.length ? "No stream has this in its name." : "Nobody publishes, nobody waits.";
    none.hidden = rows.length > 0;
    for (const head of document.querySelectorAll("th[data-key]")) {
      const sorted = head.dataset.key === order.key;
      if (sorted) head.setAttribute("aria-sort", order.up ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    }
  }

  // Puts rows in place; who stands on a link or has chosen text keeps it.
  function fill(id, rows) {
    const body = element(id);
    const focused = body.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    body.replaceChildren(...rows);
    if (focused) {
      [...body.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
    }
  }

  function showNodes(nodes) {
    const before = history.length > 1 ? history[history.length - 2] : null;
    const now = history[history.length - 1];
    const rows = nodes.map((node) => {
      const flowing = (key) => rate(before && node[key] !== undefined ? between(before, now, key, node.node) : null);
      const old = before?.nodes.get(node.node);
      const cores = (node.cores || []).map((core) => {
        const was = old?.cores.find((other) => other.core === core.core);
        const busy = was ? core.busy_ms - was.busy_ms : 0;
        const all = was ? busy + core.wait_ms - was.wait_ms : 0;
        const share = all > 0 ? Math.max(0, Math.min(1, busy / all)) : 0;
        const level = make("b", null, share > 0.9 ? "bad" : share > 0.6 ? "warn" : "");
        level.style.width = `${Math.round(share * 100)}%`;
        const made = make("span", [make("i", level), `${Math.round(share * 100)} %`], "core");
        made.title = `core ${core.core} on ${core.reactor}: ${number(core.players)} players, ` +
          `${number(core.connections)} connections, flush ${core.flush_ms} ms`;
        return made;
      });
      const name = [node.node];
      if (!node.state) name.push(" ", pill("no answer", "bad"));
      else if (node.state !== "running") name.push(" ", pill(node.state, "warn"));
      if (node.connected === false) name.push(" ", pill("cut off", "bad"));
      if (!node.state && node.draining) name.push(" ", pill("draining", "warn"));
      const players = node.players === undefined ? "–" : number(node.players);
      return make("tr", [
        cell("Node", name, "name"), cell("Players", players, "number"),
        cell("In", flowing("ingest_bytes"), "number"), cell("Out", flowing("egress_bytes"), "number"),
        cell("", make("span", cores, "cores"), "wide"),
      ]);
    });
    fill("node-rows", rows);
  }

  const KINDS = [
    ["players_dropped", "Players lost"], ["player_jumps", "Players moved forward"],
    ["messages_dropped", "Messages dropped"], ["refused", "Turned away"],
  ];

  function showDrops(nodes, at) {
    const since = history.find((look) => at - look.at <= LOSS_WINDOW_MS);
    const rows = [];
    for (const [key, what] of KINDS) {
      const sums = new Map();
      for (const node of nodes) {
        const seen = since?.nodes.get(node.node);
        const old = seen?.started_unix_ms === node.started_unix_ms ? seen : undefined;
        for (const [why, count] of Object.entries(node[key] || {})) {
          const [all, lately] = sums.get(why) || [0, 0];
          // Of a node that was not there a minute ago all of it is new, but that it came back.
          sums.set(why, [all + count, lately + (since && !old ? 0 : count - (old?.[key]?.[why] || 0))]);
        }
      }
      for (const [why, [count, lately]] of [...sums].sort((a, b) => b[1][0] - a[1][0])) {
        if (count === 0) continue;
        rows.push(make("tr", [
          cell("", what), cell("", why.replaceAll("_", " ")),
          cell("", number(lately), lately > 0 ? "number fresh-loss" : "number"),
          cell("", number(count), "number"),
        ]));
      }
    }
    fill("drop-rows", rows);
    show("drop-table", rows.length > 0);
    show("no-drops", rows.length === 0);
  }

  // Each link once, as who feeds tells of it; as who is fed does where the other does not answer.
  function showLinks(links, nodes, at) {
    const names = new Map(nodes.map((node) => [node.process, node.node]));
    const tellers = new Set(nodes.filter((node) => node.state).map((node) => node.node));
    const now = new Map();
    const rows = [];
    for (const link of links) {
      const other = names.get(link.process) || link.peer;
      const brings = link.way === "in";
      if (brings && tellers.has(other)) continue;
      const [from, to] = brings ? [other, link.node] : [link.node, other];
      const key = `${link.node} ${link.core} ${link.way} ${link.peer}`;
      const bytes = brings ? link.bytes_in : link.bytes_out;
      const before = linksBefore.get(key);
      now.set(key, { bytes, at });
      const flowing = before && at > before.at && bytes >= before.bytes
        ? (bytes - before.bytes) * 8000 / (at - before.at) : null;
      const row = make("tr", [
        cell("From", from, "name"), cell("To", to),
        cell("Streams", number(link.streams), "number"), cell("Rate", rate(flowing), "number"),
        cell("Behind", brings ? "–" : span(link.lag_ms), link.lag_ms > 2000 ? "number fresh-loss" : "number"),
      ]);
      row.title = `core ${link.core} of ${link.node}, ${link.peer}`;
      rows.push([`${from} ${to} ${link.core}`, row]);
    }
    linksBefore = now;
    rows.sort((a, b) => a[0].localeCompare(b[0]));
    fill("link-rows", rows.map(([, row]) => row));
    show("link-table", rows.length > 0);
    show("no-links", rows.length === 0);
  }

  // ---- what people do

  element("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, element("token").value.trim());
    element("token").value = "";
    show("ask", false);
    look();
  });
  element("forget").addEventListener("click", () => {
    sessionStorage.removeItem(TOKEN);
    look();
  });
  element("filter").addEventListener("input", showStreams);
  for (const head of document.querySelectorAll("th[data-key]")) {
    head.firstElementChild.addEventListener("click", () => {
      const { key } = head.dataset;
      const texts = ["name", "state", "picture"];
      order = { key, up: order.key === key ? !order.up : texts.includes(key) };
      showStreams();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(event.target.tagName)) {
      event.preventDefault();
      element("filter").focus();
    } else if (event.key === "Escape" && event.target === element("filter")) {
      element("filter").value = "";
      showStreams();
    }
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  look();
})();
