// Mouse and keys → what the timeline does. Knows nothing of how it is drawn.
import { AXIS, GUTTER } from "./frame.mjs";

const CLICK_SLACK = 4; // pixels that a click may wander before it is a drag
const WHEEL_ZOOM = 0.0022; // per pixel of wheel movement: a notch of 100 zooms by a fifth
const LINE_PIXELS = 16; // Firefox counts wheel movement in lines
const KEY_ZOOM = 1.35;
const KEY_PAN = 0.15; // of the width

/** What each key does; the help lists the same keys. */
const KEYS = {
  w: (t, x) => t.zoom(1 / KEY_ZOOM, x),
  s: (t, x) => t.zoom(KEY_ZOOM, x),
  a: (t) => t.pan(-KEY_PAN * t.view.width),
  d: (t) => t.pan(KEY_PAN * t.view.width),
  "+": (t) => t.zoom(1 / KEY_ZOOM),
  "-": (t) => t.zoom(KEY_ZOOM),
  arrowleft: (t) => t.pan(-KEY_PAN * t.view.width),
  arrowright: (t) => t.pan(KEY_PAN * t.view.width),
  arrowup: (t) => t.scrollBy(-40),
  arrowdown: (t) => t.scrollBy(40),
  f: (t) => t.fit(),
  "[": (t) => t.steps.go(-1),
  "]": (t) => t.steps.go(1),
  ",": (t) => t.picker.chooseBeside(-1),
  ".": (t) => t.picker.chooseBeside(1),
  z: (t) => t.zoomToSelection(),
  p: (t) => t.overlays.path.toggle(),
  b: (t) => t.overlays.bubbles.toggle(),
  g: (t) => t.overlays.plan.toggle(),
  c: (t) => t.overlays.counters.toggle(),
  x: (t) => t.arrangement.foldAll(),
  "/": (t) => t.search.focus(),
  "?": (t) => t.toggleHelp(),
  escape: (t) => t.escape(),
};

/** Listen until `signal` says stop. `t` is the Timeline of timeline.mjs. */
export function listen(t, signal) {
  const { canvas } = t;
  const pointer = { x: null };
  canvas.addEventListener("wheel", (event) => onWheel(t, event), { passive: false, signal });
  canvas.addEventListener("pointerdown", (event) => onPress(t, event), { signal });
  canvas.addEventListener(
    "pointermove",
    (event) => {
      pointer.x = event.offsetX - GUTTER;
      if (!event.buttons) t.picker.hover(event.offsetX, event.offsetY);
    },
    { signal },
  );
  canvas.addEventListener(
    "pointerleave",
    () => {
      pointer.x = null;
      t.picker.hover(null, null);
    },
    { signal },
  );
  canvas.addEventListener(
    "dblclick",
    (event) => {
      const hit = t.picker.at(event.offsetX, event.offsetY);
      if (hit) t.zoomTo(hit);
    },
    { signal },
  );
  document.addEventListener("keydown", (event) => onKey(t, event, pointer), { signal });
}

function onKey(t, event, pointer) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest?.("input, select, textarea, [contenteditable]");
  const action = KEYS[event.key.toLowerCase()];
  if (typing || !action) return;
  const over = pointer.x !== null && pointer.x >= 0;
  action(t, over ? pointer.x : undefined);
  event.preventDefault();
}

function onWheel(t, event) {
  event.preventDefault();
  const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE_PIXELS : 1;
  const [across, along] = [event.deltaX * unit, event.deltaY * unit];
  if (event.offsetX < GUTTER) t.scrollBy(along);
  else if (event.shiftKey) t.pan(along || across);
  else if (Math.abs(across) > Math.abs(along)) t.pan(across);
  else t.zoom(Math.exp(along * WHEEL_ZOOM), event.offsetX - GUTTER);
}

/** A press becomes a click, a pan, or, with shift or on the axis, the marking of a stretch of time. */
function onPress(t, press) {
  if (press.button !== 0) return;
  const { canvas } = t;
  const done = new AbortController();
  const { signal } = done;
  const from = [press.offsetX, press.offsetY];
  const marks = press.shiftKey || press.offsetY <= AXIS;
  let [x, y] = from;
  let moved = false;
  canvas.setPointerCapture(press.pointerId);
  canvas.addEventListener(
    "pointermove",
    (event) => {
      const far = Math.hypot(event.offsetX - press.offsetX, event.offsetY - press.offsetY);
      moved ||= far > CLICK_SLACK;
      if (!moved) return;
      if (marks) t.markBand(from, [event.offsetX, event.offsetY]);
      else t.drag(x - event.offsetX, y - event.offsetY);
      [x, y] = [event.offsetX, event.offsetY];
    },
    { signal },
  );
  const end = (event) => {
    done.abort();
    if (moved && marks) t.chooseBand(from, [event.offsetX, event.offsetY]);
    else if (!moved && x < GUTTER && y > AXIS) t.arrangement.click(y);
    else if (!moved && event.type === "pointerup" && event.offsetY > AXIS) t.picker.click(x, y);
    else if (!moved && event.offsetY <= AXIS) t.steps.click(x);
    t.endDrag();
  };
  canvas.addEventListener("pointerup", end, { signal });
  canvas.addEventListener("pointercancel", end, { signal });
}
