// Draws the figures to look into: what each shows stands beside it as JSON, in the words of plotly. Where this
// does not run, and on paper, pictures stand in their place.
(() => {
  "use strict";
  const dark = matchMedia("(prefers-color-scheme: dark)"), phone = matchMedia("(max-width: 36rem)");
  const config = {
    responsive: true, displaylogo: false, displayModeBar: true, doubleClick: "autosize",
    modeBarButtons: [["zoom2d", "pan2d", "autoScale2d"]],
  };
  for (const figure of document.querySelectorAll("figure")) {
    const given = figure.querySelector("script");
    if (!given) continue;
    const box = figure.querySelector(".live");
    const draw = () => {
      const style = getComputedStyle(document.documentElement);
      // Colours of the page, light or dark.
      const text = given.textContent.replace(/var\((--\w+)\)/g, (_, name) => style.getPropertyValue(name).trim());
      const { data, layout, stacked } = JSON.parse(text);
      return Plotly.react(box, data, phone.matches ? stacked : layout, config);
    };
    figure.classList.add("alive");
    Promise.resolve().then(draw).catch((error) => {
      figure.classList.remove("alive");
      console.error(error);
    });
    for (const change of [dark, phone]) change.addEventListener("change", draw);
  }
})();
