// Draws each chart from the table that stands beside it, so that both always say the same; the page is complete
// without. The table's head says how a column is drawn: data-series="bar|line", data-color, data-stack.
"use strict";
(() => {
  const quiet = matchMedia("(prefers-reduced-motion: reduce)");
  const count = new Intl.NumberFormat("en");

  // A custom property may hold light-dark(): only the browser can say which colour that is now.
  const colour = (name) => {
    const probe = document.createElement("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };

  const series = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    const rows = [...table.tBodies[0].rows];
    return heads.flatMap((head, column) => {
      if (!head.dataset.series) return [];
      const own = colour(`--${head.dataset.color}`);
      const line = head.dataset.series === "line";
      return {
        type: head.dataset.series,
        label: head.textContent.trim(),
        data: rows.map((row) => Number(row.cells[column].dataset.value)),
        backgroundColor: own,
        borderColor: own,
        borderWidth: line ? 2 : 0,
        borderRadius: line ? 0 : 2,
        pointRadius: line ? (rows.length > 45 ? 0 : 2) : 0,
        pointHitRadius: 8,
        stack: head.dataset.stack || head.dataset.color,
        order: line ? 0 : 1,
        maxBarThickness: 28,
        categoryPercentage: 0.8,
        barPercentage: 0.95,
      };
    });
  };

  const draw = (figure) => {
    const table = figure.querySelector("table");
    const canvas = figure.querySelector("canvas");
    const text = colour("--muted");
    const grid = colour("--line");
    const ticks = { color: text, font: { family: getComputedStyle(document.body).fontFamily, size: 12 } };
    const stacked = canvas.dataset.stacked === "true";
    return new Chart(canvas, {
      type: "bar",
      data: {
        labels: [...table.tBodies[0].rows].map((row) => row.cells[0].dataset.short || row.cells[0].textContent),
        datasets: series(table),
      },
      options: {
        animation: quiet.matches ? false : { duration: 200 },
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        scales: {
          x: { stacked, grid: { display: false }, border: { color: grid }, ticks: { ...ticks, maxRotation: 0, autoSkipPadding: 14 } },
          y: { stacked, beginAtZero: true, border: { display: false }, grid: { color: grid }, ticks: { ...ticks, precision: 0, maxTicksLimit: 6 } },
        },
        plugins: {
          legend: { position: "bottom", align: "start", labels: { color: text, boxWidth: 12, boxHeight: 12, padding: 14, font: ticks.font } },
          tooltip: { callbacks: { label: (item) => ` ${item.dataset.label}: ${count.format(item.raw)}` } },
        },
      },
    });
  };

  const start = () => {
    // Selectors need no button where a script can send them.
    for (const form of document.querySelectorAll("form[data-autosubmit]")) {
      form.classList.add("scripted");
      form.addEventListener("change", () => form.requestSubmit());
    }
    if (typeof Chart === "undefined") return;
    const figures = [...document.querySelectorAll("figure[data-chart]")];
    let charts = [];
    const drawAll = () => {
      for (const chart of charts) chart.destroy();
      charts = figures.map(draw);
    };
    for (const figure of figures) figure.classList.add("drawn");
    drawAll();
    document.addEventListener("themechange", drawAll);
  };
  document.addEventListener("DOMContentLoaded", start);
})();
