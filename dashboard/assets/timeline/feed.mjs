// Asks the server for what the view needs and does not have: the events of the window with what
// lies around it, those of the whole run, and more of a run that is being recorded.
import { AXIS } from "./frame.mjs";
import { rowsBetween } from "./rows.mjs";
import { stepsByRank } from "./steps.mjs";

const OVERSCAN = 0.5; // of the window, fetched on either side so that panning finds it there
const MAX_QUERY_WIDTH = 16_384; // window.py: MAX_WIDTH
export const MAX_QUERY_ROWS = 4_096; // window.py: MAX_ROWS
const OVERVIEW_PIXELS = 2_000_000; // rows × width: with very many rows the overview gets coarser
const RETRY_MS = 1_500; // after the server could not be reached

export class Feed {
  /** `t` is the Timeline of timeline.mjs. */
  constructor(t) {
    this.t = t;
    this.hasGrown = false;
  }

  /** Ask for the window's events, unless the last reply holds them as sharp as they are drawn. */
  async window() {
    const { view, scene, picker, source } = this.t;
    const { reply, scroll } = scene;
    const tall = scene.height - AXIS;
    const [top, bottom] = rowsBetween(scene.layout, scroll, scroll + tall);
    const inTime = reply && reply.start <= view.start && reply.end >= view.end;
    const inRows = reply && reply.first_row <= top && reply.end_row >= bottom;
    const asked = reply && reply.asked_ns_per_pixel * scene.ratio;
    const sharp = reply && Math.abs(asked / view.nsPerPixel - 1) < 0.01;
    if (inTime && inRows && sharp && !this.hasGrown) return;
    const around = (view.end - view.start) * OVERSCAN;
    const [firstRow, endRow] = rowsBetween(scene.layout, scroll - tall, scroll + 2 * tall);
    const wanted = {
      start: Math.floor(view.start - around),
      end: Math.ceil(view.end + around),
      width: Math.min(MAX_QUERY_WIDTH, Math.round(view.width * scene.ratio * (1 + 2 * OVERSCAN))),
      firstRow,
      endRow: Math.min(endRow, firstRow + MAX_QUERY_ROWS),
    };
    await this.take(source.window(wanted), (fresh) => {
      scene.reply = fresh;
      scene.stepsOf = stepsByRank(fresh);
      this.t.root.dataset.fetched = `${fresh.start}-${fresh.end}`;
      this.hasGrown = false;
      picker.hoverAgain();
    });
  }

  /** Ask for the whole run, which the minimap shows. */
  async overview() {
    const { view, scene, lanes, source, arrangement } = this.t;
    const [start, end] = lanes.span;
    const endRow = Math.min(lanes.rows, MAX_QUERY_ROWS);
    const most = Math.ceil(OVERVIEW_PIXELS / Math.max(1, endRow));
    const width = Math.round(Math.min(view.width * scene.ratio, most));
    await this.take(source.once({ start, end, width, firstRow: 0, endRow }), (fresh) => {
      scene.overview = fresh;
      arrangement.follow(window.rankscope.view.get());
    });
  }

  /** The run that is shown is being recorded, and there is more of it. */
  async grow() {
    const { t } = this;
    await this.take(t.source.lanes(), (fresh) => {
      const { rows } = t.lanes;
      t.lanes = fresh;
      t.source.events.clear();
      t.view.span = fresh.span;
      this.hasGrown = true;
      for (const overlay of Object.values(t.overlays)) overlay.forget();
      if (fresh.rows !== rows) t.resize();
      if (t.followsEnd) t.view.set(...t.steps.last());
      t.changed();
      this.overview();
    });
  }

  /** Keep what the server says (null: it is no longer wanted), and draw. False if the server could
   * not be reached; what is missing is then asked for again a little later. */
  async take(promise, keep) {
    const { t } = this;
    let fresh;
    try {
      fresh = await promise;
    } catch (error) {
      if (t.ending.signal.aborted) return true;
      if (error.refused) t.say(error.message);
      else this.fail(error);
      return Boolean(error.refused);
    }
    if (!fresh || t.ending.signal.aborted) return true;
    keep(fresh);
    t.part("trouble").hidden = true;
    t.root.dataset.ready = "true";
    t.redraw();
    return true;
  }

  fail({ message }) {
    const { t } = this;
    t.part("trouble").textContent = `The dashboard's server does not answer: ${message}`;
    t.part("trouble").hidden = false;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.again(), RETRY_MS);
  }

  again() {
    const { t } = this;
    if (t.ending.signal.aborted) return;
    if (!t.scene.overview) this.overview();
    t.followUrl();
  }

  end() {
    clearTimeout(this.timer);
  }
}
