// A click on a figure counts, however soon it comes after a movement of the mouse.
//
// plotly.js takes the point under its last hover for the clicked one, and hovers every 50 ms at
// most: a movement in between, or a figure drawn anew, is looked at later. If the button is down
// by then, it forgets the point and looks at nothing for another 50 ms; a click that ends within
// these is lost.
(function clicks() {
  let pressed = null;

  // The capturing ones of the window come before plotly's own.
  function listen(type, heard) {
    window.addEventListener(type, heard, { capture: true });
  }

  listen("mousedown", (event) => {
    pressed = event.target.closest?.(".js-plotly-plot");
  });
  listen("mouseup", () => {
    // This forgets also when it hovered last: the click hovers anew, where the button went down.
    if (pressed?._fullLayout) window.Plotly.Fx.unhover(pressed, {});
    pressed = null;
  });
})();
