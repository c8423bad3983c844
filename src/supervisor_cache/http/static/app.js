"use strict";

// Entries by key, and their keys in code-point order. What supervisord tells over the stream is put in here; the table
// shows as much of it as anybody looks at.
const entries = new Map();
let keys = [];
let changes = [];
let stats = null;
let revision = "0";
let source = null;
let skew = 0;
let shownRows = 0;
let shownChanges = 0;
let generation = 0;
let changesLoaded = false;
// Up to this revision they have been read; newer ones come over the stream.
let changesTo = 0n;
// Which entry each row shows.
const shown = new WeakMap();

// Of entries at first, and each time that the end of the table comes into view; and of changes.
const ROWS = 50;
const CHANGE_ROWS = 100;
const LONG = 160;
const MOST_CHANGES = 2000;
const RETRY = 2000;
const FRESH = 1500;
// How the storage does comes with no change of an entry.
const LOOK = 5000;

const $ = (id) => document.getElementById(id);

// Text and time

function compare(one, other) {
  // Code points, as supervisord sorts them; JavaScript compares UTF-16, which differs beyond U+FFFF.
  const a = [...one];
  const b = [...other];
  for (let place = 0; place < a.length && place < b.length; place++) {
    if (a[place] !== b[place]) return a[place].codePointAt(0) - b[place].codePointAt(0);
  }
  return a.length - b.length;
}

function placeOf(key) {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compare(keys[middle], key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function now() {
  return Date.now() / 1000 + skew;
}

function span(seconds) {
  let left = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    if (left >= size || (unit === "s" && parts.length === 0)) {
      parts.push(`${Math.floor(left / size)}${unit}`);
      left %= size;
    }
  }
  return parts.slice(0, 2).join(" ");
}

// JavaScript has one kind of number, and would write 2.0 as 2. So a double that is whole is kept as it was written, by
// browsers that can; others show it shorter, and edit it as it was written all the same.
const KEEPS = typeof JSON.rawJSON === "function";

// Whether there may be one among entries: to look at each number takes ten times as long as to parse.
const MAY_BE_WHOLE = /"value":(?:[[{]|-?\d+(?:\.0[,}]|\.?\d*[eE]))/;

function parsed(text) {
  return MAY_BE_WHOLE.test(text) ? parsedAsWritten(text) : JSON.parse(text);
}

function parsedAsWritten(text) {
  return KEEPS ? JSON.parse(text, asWritten) : JSON.parse(text);
}

function asWritten(_name, value, context) {
  if (typeof value !== "number" || !Number.isInteger(value)) return value;
  return /[.eE]/.test(context.source) ? JSON.rawJSON(context.source) : value;
}

function isKept(value) {
  return KEEPS && JSON.isRawJSON(value);
}

// Times are reckoned with.
function timed(one) {
  for (const name of ["modified", "expires"]) if (isKept(one[name])) one[name] = Number(one[name].rawJSON);
  return one;
}

function isStructured(value) {
  return value !== null && typeof value === "object" && !isDate(value) && !isKept(value);
}

function kindOf(value) {
  if (typeof value === "boolean") return "true or false";
  if (isDate(value)) return "date and time";
  if (!Number.isInteger(value)) return "decimal";
  return KEEPS ? "integer" : "number";
}

function isDate(value) {
  return value !== null && typeof value === "object" && Object.keys(value).length === 1 && "$dateTime" in value;
}

function shortened(value) {
  if (typeof value === "string") return value;
  return isDate(value) ? value.$dateTime.replace("T", " ") : JSON.stringify(value);
}

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [property, value] of Object.entries(properties)) {
    if (property.includes("-") || property === "role") made.setAttribute(property, value);
    else made[property] = value;
  }
  made.append(...children);
  return made;
}

// Asking supervisord

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch {
    throw new Error("supervisord cannot be reached.");
  }
  const date = Date.parse(response.headers.get("Date") ?? "");
  if (!Number.isNaN(date) && Math.abs(date - Date.now()) > 2000) skew = (date - Date.now()) / 1000;
  return response;
}

async function told(response) {
  if (response.ok) return response.status === 204 ? null : parsed(await response.text());
  let detail = `${response.status} ${response.statusText}`;
  try {
    detail = (await response.json()).detail ?? detail;
  } catch {
    // Not one of ours: a proxy's, or Supervisor's own.
  }
  const error = new Error(detail);
  error.status = response.status;
  throw error;
}

function entryPath(key, query = {}) {
  const parameters = new URLSearchParams({ key, ...query });
  return `v1/entries?${parameters}`;
}

async function load() {
  const mine = ++generation;
  source?.close();
  try {
    stats = await told(await ask("v1/stats"));
    describe();
    const found = [];
    let first = null;
    let after = "";
    do {
      const page = await told(await ask(`v1/entries?limit=1000&after=${encodeURIComponent(after)}`));
      if (mine !== generation) return;
      first ??= page.revision;
      found.push(...page.entries.map(timed));
      after = page.next;
      if (found.length === page.entries.length) take(found);
    } while (after !== null);
    take(found);
    revision = first;
    problem("");
    changes = [];
    changesTo = 0n;
    changesLoaded = false;
    follow();
    resume();
  } catch (error) {
    if (mine !== generation) return;
    contact("lost", "no connection, trying again");
    problem(error.status ? error.message : "");
    setTimeout(load, RETRY);
  }
}

async function look() {
  if (document.hidden || $("contact").dataset.state !== "live") return;
  try {
    stats = await told(await ask("v1/stats"));
    describe();
  } catch {
    // The stream says when there is no connection.
  }
}

function take(found) {
  pending.length = 0;
  entries.clear();
  for (const entry of found) entries.set(entry.key, entry);
  keys = found.map((entry) => entry.key);
  render();
}

// Following what happens

function follow() {
  source?.close();
  source = new EventSource(`v1/stream?since=${revision}`);
  let opened = false;
  source.onopen = () => {
    contact("live", "live");
    // A server that is there again may have other settings.
    if (opened) learn();
    opened = true;
  };
  source.onmessage = (event) => {
    revision = event.lastEventId;
    receive(parsed(event.data));
  };
  source.addEventListener("reset", load);
  source.onerror = () => {
    contact("lost", "connection lost, trying again");
    if (source.readyState === EventSource.CLOSED) setTimeout(again, RETRY, source);
  };
}

async function learn() {
  try {
    stats = await told(await ask("v1/stats"));
    describe();
    resume();
  } catch {
    // It is gone again, and the stream tells.
  }
}

async function again(which) {
  if (which !== source) return;
  try {
    stats = await told(await ask("v1/stats"));
    describe();
    // A stream does not say why it is refused. Whoever waits for a change takes a place like it, and is told.
    const waited = await ask(`v1/changes?since=${revision}&limit=1&wait=0.01`);
    if (waited.status === 429) await told(waited);
    if (which !== source) return;
    problem("");
    follow();
    resume();
  } catch (error) {
    problem(error.status ? error.message : "");
    setTimeout(again, RETRY, which);
  }
}

const pending = [];

function receive(batch) {
  if (pending.length === 0) requestAnimationFrame(apply);
  pending.push(...batch);
  // A page that nobody sees has no frames, and would gather all that happens.
  if (document.hidden) apply();
}

function apply() {
  const fresh = new Set();
  let reordered = false;
  for (const change of pending.splice(0).map(timed)) {
    if (change.kind === "clear") {
      entries.clear();
      keys = [];
      reordered = true;
    } else if (change.entry === null) {
      if (entries.delete(change.key)) {
        keys.splice(placeOf(change.key), 1);
        reordered = true;
      }
    } else {
      if (!entries.has(change.key)) {
        keys.splice(placeOf(change.key), 0, change.key);
        reordered = true;
      }
      entries.set(change.key, timed(change.entry));
      if (!("value" in change.entry)) fetchValue(change.key);
    }
    fresh.add(change.key);
    if (BigInt(change.revision) > changesTo) changes.push(change);
  }
  if (changes.length > MOST_CHANGES) changes = changes.slice(-MOST_CHANGES);
  if (reordered) render(fresh);
  else for (const key of fresh) refresh(key);
  if (!$("panel-changes").hidden && changesLoaded) renderChanges();
}

async function fetchValue(key) {
  try {
    const entry = timed(await told(await ask(entryPath(key))));
    const known = entries.get(key);
    if (known && BigInt(entry.revision) >= BigInt(known.revision)) {
      entries.set(key, entry);
      refresh(key);
    }
  } catch {
    // Deleted in the meantime, or it comes again with the next change.
  }
}

// Showing

function contact(state, text) {
  const place = $("contact");
  if (place.dataset.state === state && place.textContent === text) return;
  place.dataset.state = state;
  place.textContent = text;
}

function problem(text, place = "problem") {
  $(place).textContent = text;
  $(place).hidden = text === "";
}

function describe() {
  $("namespace").textContent = stats.namespace;
  $("identification").textContent = stats.identification === stats.namespace ? "" : stats.identification;
  document.title = `${stats.namespace} \u2013 ${stats.identification}`;
  $("back").parentElement.hidden = stats.confined;
  if ($("add").hidden === stats.writable) $("entries").replaceChildren();
  for (const one of document.querySelectorAll(".writes")) one.hidden = !stats.writable;
  if (keys.length && !$("entries").childElementCount) render();
  const { kind, state, detail } = stats.storage;
  const trouble = state === "ok" ? "" : `: ${state}${detail ? `, ${detail}` : ""}`;
  const only = stats.writable ? "" : " This server only reads.";
  // A copy of what many hosts share: who tells of changes, who else could, since when nobody has, and the lease of
  // what processes own.
  const { member, age, lease, members = [] } = stats.storage;
  const others = members.filter((one) => one !== member).join(", ");
  let copy = "";
  if (member) copy = ` at ${member}${others && `, or else ${others}`}`;
  else if (others) copy = ` at ${others}`;
  if (!member && age > 0) copy += `, a copy that is ${Math.round(age)} s old`;
  if (lease) copy += `, lease ${lease}`;
  $("storage").textContent = `Storage: ${kind}${copy}${trouble}. At most ${stats.limits.max_entries} entries.${only}`;
}

function matching() {
  const prefix = $("filter").value;
  if (prefix === "") return keys;
  const start = placeOf(prefix);
  let end = start;
  while (end < keys.length && keys[end].startsWith(prefix)) end++;
  return keys.slice(start, end);
}

function render(fresh = new Set()) {
  const found = matching();
  shownRows = Math.max(shownRows, ROWS);
  const visible = found.slice(0, shownRows);
  // A row that says what it said stays, and with it focus, selection and what is unfolded.
  const focus = focused();
  const wanted = new Set(visible);
  const open = new Set();
  for (const old of [...$("entries").children]) {
    const { key } = old.dataset;
    if (wanted.has(key) && shown.get(old) === entries.get(key)) continue;
    if (old.querySelector("details")?.open) open.add(key);
    old.remove();
  }
  let place = $("entries").firstElementChild;
  for (const key of visible) {
    if (place?.dataset.key === key) place = place.nextElementSibling;
    else $("entries").insertBefore(row(entries.get(key), open.has(key), fresh.has(key)), place);
  }
  if (focus && !rowOf(focus.key)?.contains(document.activeElement)) focusOn(focus.key, focus.control);
  $("more").hidden = visible.length === found.length;
  $("nothing").hidden = found.length > 0;
  $("nothing").textContent = keys.length ? "No key starts so." : "There is nothing here.";
  const all = keys.length === 1 ? "1 entry" : `${keys.length} entries`;
  $("count").textContent = found.length === keys.length ? all : `${found.length} of ${all}`;
}

function rowOf(key) {
  return [...$("entries").children].find((one) => one.dataset.key === key);
}

function focused() {
  const { activeElement } = document;
  const key = activeElement?.closest("#entries tr")?.dataset.key;
  return key === undefined ? null : { key, control: activeElement.dataset.control };
}

function focusOn(key, control) {
  // Where the entry is gone: the one that has taken its place.
  const place = placeOf(key);
  const found = rowOf(key) ?? rowOf(keys[place]) ?? rowOf(keys[place - 1]);
  (found?.querySelector(`[data-control="${control}"]`) ?? $("filter")).focus();
}

// The browser gives the focus back to the button that opened a dialog, but that may have been made anew behind it. It
// tells of the end a moment later: who has gone on by then stays there.
function focusAgainOn(key, control, dialog) {
  const { activeElement } = document;
  if (activeElement === document.body || dialog.contains(activeElement)) focusOn(key, control);
}

function refresh(key) {
  const old = rowOf(key);
  const entry = entries.get(key);
  if (!old || !entry) return;
  const focus = old.contains(document.activeElement) ? focused() : null;
  const made = row(entry, old.querySelector("details")?.open ?? false, true);
  old.replaceWith(made);
  if (focus) focusOn(key, focus.control);
}

function cell(label, text, names = "") {
  const empty = text === "" ? " empty" : "";
  return element("td", { role: "cell", className: names + empty, "data-label": label }, text);
}

function row(entry, open, fresh) {
  const made = element("tr", { role: "row" });
  made.dataset.key = entry.key;
  shown.set(made, entry);
  const value = element("td", { role: "cell", "data-label": "Value" }, valueOf(entry, open));
  made.append(
    cell("Key", element("span", { className: "key", textContent: entry.key })),
    value,
    cell("Age", element("span", { className: "age" }), "soft"),
    cell("Ends in", entry.expires ? element("span", { className: "ends" }) : "", "soft"),
    cell("Owner", entry.owner),
    cell("Note", entry.note),
    cell("Revision", entry.revision, "revision"),
  );
  if (stats.writable) {
    const edit = element("button", { type: "button", textContent: "Edit", "aria-label": `Edit ${entry.key}` });
    edit.dataset.control = "edit";
    edit.onclick = () => edits(entry.key);
    const remove = element("button", { type: "button", textContent: "Delete", "aria-label": `Delete ${entry.key}` });
    remove.dataset.control = "delete";
    remove.onclick = () => asks(entry.key);
    made.append(element("td", { role: "cell", className: "actions" }, edit, remove));
  }
  tell(made, entry);
  if (fresh) {
    made.classList.add("fresh");
    setTimeout(() => made.classList.remove("fresh"), FRESH);
  }
  return made;
}

function valueOf(entry, open) {
  if (!("value" in entry)) return element("span", { className: "value missing", textContent: "large; being fetched" });
  const { value } = entry;
  if (value === "") return element("span", { className: "value missing", textContent: "empty" });
  const text = shortened(value);
  const structured = isStructured(value);
  if (!structured && text.length <= LONG && !text.includes("\n")) {
    // The text true looks like the boolean, but for this.
    if (typeof value === "string") return element("span", { className: "value", textContent: text });
    return element("span", { className: "value other", textContent: text, title: kindOf(value) });
  }
  if (structured && text.length <= 40) return element("span", { className: "value other", textContent: text });
  const head = text.slice(0, 80).split("\n")[0];
  const names = structured ? "value other" : "value";
  const summary = element("summary", { className: names, textContent: head.length < text.length ? `${head}\u2026` : head });
  summary.dataset.control = "value";
  const details = element("details", { open }, summary);
  details.dataset.key = entry.key;
  const fill = () => {
    if (details.open && details.childElementCount === 1) {
      const whole = element("pre", { tabIndex: 0, textContent: structured ? JSON.stringify(value, null, 2) : text });
      whole.dataset.control = "whole";
      details.append(whole);
    }
  };
  details.addEventListener("toggle", fill);
  fill();
  return details;
}

function tell(made, entry) {
  const age = made.querySelector(".age");
  age.textContent = span(now() - entry.modified);
  age.title = new Date(entry.modified * 1000).toLocaleString();
  const ends = made.querySelector(".ends");
  if (ends) {
    const left = entry.expires - now();
    ends.textContent = span(left);
    ends.title = new Date(entry.expires * 1000).toLocaleString();
    ends.classList.toggle("soon", left < 60);
  }
}

setInterval(() => {
  if (document.hidden || $("panel-entries").hidden) return;
  for (const made of $("entries").children) {
    const entry = entries.get(made.dataset.key);
    if (entry) tell(made, entry);
  }
}, 1000);

// Changes

// Whoever looks at the changes, and could not be told them.
function resume() {
  if (!$("panel-changes").hidden && !changesLoaded) loadChanges();
}

async function loadChanges() {
  const mine = generation;
  const found = [];
  let since = stats.history.since;
  try {
    for (;;) {
      const page = await told(await ask(`v1/changes?limit=1000&since=${since}`));
      found.push(...page.changes.map(timed));
      since = page.revision;
      if (page.changes.length === 0) break;
    }
  } catch (error) {
    if (error.status === 410) {
      stats = await told(await ask("v1/stats"));
      return loadChanges();
    }
    problem(`The changes cannot be read: ${error.message}`);
    return undefined;
  }
  if (mine !== generation) return undefined;
  changesTo = BigInt(since);
  const newer = changes.filter((change) => BigInt(change.revision) > changesTo);
  changes = [...found, ...newer].slice(-MOST_CHANGES);
  changesLoaded = true;
  problem("");
  renderChanges();
  return undefined;
}

function renderChanges() {
  const prefix = $("filter").value;
  const found = changes.filter((change) => change.kind === "clear" || change.key.startsWith(prefix));
  shownChanges = Math.max(shownChanges, CHANGE_ROWS);
  const rows = found.slice(-shownChanges).reverse().map((change) =>
    element(
      "tr",
      { role: "row" },
      cell("When", new Date(change.modified * 1000).toLocaleString(), "soft"),
      cell("What", change.kind),
      cell("Key", change.kind === "clear" ? "(all)" : element("span", { className: "key", textContent: change.key })),
      cell("By", change.via),
      cell("Note", change.note),
      cell("Revision", change.revision, "revision"),
    ),
  );
  $("changes").replaceChildren(...rows);
  $("more-changes").hidden = rows.length === found.length;
  $("no-changes").hidden = rows.length > 0;
}

function choose(which) {
  for (const name of ["entries", "changes"]) {
    const chosen = name === which;
    $(`tab-${name}`).setAttribute("aria-selected", String(chosen));
    $(`tab-${name}`).tabIndex = chosen ? 0 : -1;
    $(`panel-${name}`).hidden = !chosen;
  }
  if (which === "changes") {
    if (changesLoaded) renderChanges();
    else if (stats) loadChanges();
  }
}

for (const name of ["entries", "changes"]) {
  $(`tab-${name}`).onclick = () => choose(name);
  $(`tab-${name}`).onkeydown = (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = name === "entries" ? "changes" : "entries";
    choose(other);
    $(`tab-${other}`).focus();
  };
}

// Editing

let editing = null;

async function edits(key) {
  problem("");
  problem("", "editor-problem");
  $("conflict").hidden = true;
  const isNew = key === null;
  editing = { key, revision: null, owner: "" };
  $("editor-title").textContent = isNew ? "Add entry" : "Edit entry";
  $("edit-key").value = isNew ? $("filter").value : key;
  $("edit-key").readOnly = !isNew;
  $("edit-note").value = "";
  if (isNew) {
    fill("", "text/plain");
    $("edit-ttl").value = "";
  } else if (!(await fetchToEdit(key, "problem"))) {
    return;
  }
  $("editor").showModal();
  (isNew ? $("edit-key") : $("edit-value")).focus();
}

async function fetchToEdit(key, place) {
  // Whoever is impatient, and chooses another one meanwhile, edits that one.
  const mine = editing;
  // As it is written: JavaScript would take 2.0 for 2.
  try {
    const response = await ask(`v1/values?${new URLSearchParams({ key })}`);
    if (!response.ok) await told(response);
    const entry = timed(await told(await ask(entryPath(key))));
    const text = await response.text();
    if (mine !== editing) return false;
    if (response.headers.get("ETag") !== `"${entry.revision}"`) return fetchToEdit(key, place);
    editing.revision = entry.revision;
    editing.owner = entry.owner;
    $("edit-note").value = entry.note;
    const ends = entry.expires ? `${Math.max(1, Math.round(entry.expires - now()))}s` : "";
    $("edit-ttl").value = ends;
    editing.expires = entry.expires;
    editing.ends = ends;
    fill(text, response.headers.get("Content-Type") ?? "");
    return true;
  } catch (error) {
    if (mine === editing) problem(`${key}: ${error.message}`, place);
    return false;
  }
}

function fill(text, type) {
  let kind = "text";
  let shown = text;
  if (type.startsWith("application/json")) {
    const value = parsedAsWritten(text);
    if (typeof value === "boolean") kind = "boolean";
    else if (typeof value === "number" || isKept(value)) kind = /[.eE]/.test(text) ? "decimal" : "integer";
    else if (isDate(value)) {
      kind = "date";
      shown = value.$dateTime;
    } else {
      kind = "json";
      shown = text.length < 5000 && (KEEPS || !/\d[.eE]/.test(text)) ? JSON.stringify(value, null, 2) : text;
    }
  }
  $("edit-type").value = kind;
  $("edit-value").value = shown;
}

function body() {
  const text = $("edit-value").value;
  const short = text.trim();
  const json = (value) => [value, "application/json"];
  switch ($("edit-type").value) {
    case "integer":
      if (!/^-?\d+$/.test(short)) throw new Error("An integer has digits alone, and maybe a minus.");
      return json(short);
    case "decimal":
      if (!/^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(short)) throw new Error("A decimal is like 0.5 or 1e6.");
      return json(/[.eE]/.test(short) ? short : `${short}.0`);
    case "boolean":
      if (short !== "true" && short !== "false") throw new Error("Must be true or false.");
      return json(short);
    case "date":
      return json(JSON.stringify({ $dateTime: short.replace(" ", "T") }));
    case "json":
      try {
        JSON.parse(short);
      } catch (error) {
        throw new Error(`Not JSON: ${error.message}`);
      }
      return json(short);
    default:
      return [text, "text/plain; charset=utf-8"];
  }
}

function ttl() {
  const text = $("edit-ttl").value.trim();
  if (text === "" || text === "never") return null;
  // Left as it was: it ends when it would have ended, however long the dialog was open.
  if (text === editing.ends) return Math.max(0.001, editing.expires - now()).toFixed(3);
  const found = /^(\d+(?:\.\d+)?)\s*([smhd]?)$/.exec(text);
  if (!found) throw new Error("Ends in: must be empty, seconds, or like 90s, 90m, 2h, 7d.");
  return Number(found[1]) * { "": 1, s: 1, m: 60, h: 3600, d: 86400 }[found[2]];
}

// What is being saved.
let saving = null;

async function save() {
  const mine = editing;
  if (saving === mine) return;
  saving = mine;
  problem("", "editor-problem");
  try {
    const [data, type] = body();
    const query = {};
    const seconds = ttl();
    if (seconds !== null) query.ttl = String(seconds);
    if ($("edit-note").value) query.note = $("edit-note").value;
    if (editing.owner) query.owner = editing.owner;
    const condition = editing.revision === null ? { "If-None-Match": "*" } : { "If-Match": `"${editing.revision}"` };
    const key = $("edit-key").value;
    const response = await ask(entryPath(key, query), {
      method: "PUT",
      body: data,
      headers: { "Content-Type": type, ...condition },
    });
    if (response.status === 412) {
      await conflict(key, mine);
      return;
    }
    await told(response);
    if (mine === editing) $("editor").close();
  } catch (error) {
    if (mine === editing) problem(error.message, "editor-problem");
  } finally {
    if (saving === mine) saving = null;
  }
}

async function conflict(key, mine) {
  const response = await ask(entryPath(key));
  const entry = response.status === 404 ? null : await told(response);
  if (mine !== editing) return;
  $("conflict").hidden = false;
  $("conflict-value").hidden = true;
  $("take-theirs").hidden = true;
  if (entry === null) {
    editing.other = null;
    $("conflict-text").textContent = "Somebody has deleted this entry in the meantime.";
  } else {
    editing.other = entry.revision;
    const who = entry.note ? ` Its note: ${entry.note}` : "";
    $("conflict-text").textContent = `${editing.revision === null ? "There is an entry with this key already." : "Somebody has changed this entry in the meantime."}${who}`;
    $("conflict-value").textContent = typeof entry.value === "string" ? entry.value : JSON.stringify(entry.value, null, 2);
    $("conflict-value").hidden = false;
    $("take-theirs").hidden = false;
  }
  $("overwrite").focus();
}

$("overwrite").onclick = () => {
  editing.revision = editing.other;
  $("conflict").hidden = true;
  save();
};
$("take-theirs").onclick = () => {
  $("conflict").hidden = true;
  $("edit-key").readOnly = true;
  $("editor-title").textContent = "Edit entry";
  fetchToEdit($("edit-key").value, "editor-problem");
};
$("edit-key").oninput = () => {
  // What was decided is about the key that stood here.
  editing.revision = null;
  $("conflict").hidden = true;
};
$("editor-form").onsubmit = (event) => {
  event.preventDefault();
  save();
};
$("cancel").onclick = () => $("editor").close();
$("editor").addEventListener("close", (event) => {
  if (editing.key !== null) focusAgainOn(editing.key, "edit", event.target);
});
$("add").onclick = () => edits(null);

// Deleting

let doomed = null;

function asks(key) {
  doomed = { key, revision: entries.get(key)?.revision };
  problem("", "question-problem");
  $("question-key").textContent = key;
  $("question-note").value = "";
  $("question").showModal();
  $("keep").focus();
}

$("keep").onclick = () => $("question").close();
$("question").addEventListener("close", (event) => focusAgainOn(doomed.key, "delete", event.target));
$("delete").onclick = async () => {
  try {
    const note = $("question-note").value;
    const response = await ask(entryPath(doomed.key, note ? { note } : {}), {
      method: "DELETE",
      headers: { "If-Match": `"${doomed.revision}"` },
    });
    if (response.status === 412) {
      const current = entries.get(doomed.key);
      if (!current) {
        $("question").close();
        return;
      }
      doomed.revision = current.revision;
      problem("It has changed in the meantime. Delete it all the same?", "question-problem");
      return;
    }
    await told(response);
    $("question").close();
  } catch (error) {
    problem(error.message, "question-problem");
  }
};

$("filter").oninput = () => {
  shownRows = ROWS;
  shownChanges = CHANGE_ROWS;
  render();
  if (!$("panel-changes").hidden) renderChanges();
};
$("tools").onsubmit = (event) => event.preventDefault();
function showMore() {
  shownRows += ROWS;
  render();
}
$("more").onclick = () => {
  const next = $("entries").childElementCount;
  showMore();
  // The button goes away in the end; who pressed it reads on where the new rows begin.
  $("entries").children[next]?.querySelector("[data-control]")?.focus();
};
$("more-changes").onclick = () => {
  shownChanges += CHANGE_ROWS;
  renderChanges();
  if ($("more-changes").hidden) $("panel-changes").focus();
};
const end = new IntersectionObserver((seen) => {
  if (!seen.some((one) => one.isIntersecting) || $("more").hidden) return;
  showMore();
  // It tells what has changed between two frames alone: who scrolls as fast as rows come would wait in vain.
  end.unobserve($("more"));
  end.observe($("more"));
});
end.observe($("more"));

setInterval(look, LOOK);
load();
