"""The HTML report: one file that needs no network.

- `render`: the door: runs in, a file out;
- `page`: what the page shows, as plain values, from a comparison and the records; its parts are `arms`, `pairs`,
  `task_matrix`, `cost_charts` and `tools`;
- `charts`: values to places on a scale. Pure;
- `trials`: a trial's transcript, diff and checks, packed to be unpacked when a reader opens it;
- `report.html`, `report.css`, `report.js`: how it looks.

All text is untrusted. The template escapes whatever it is given, the script only ever makes text nodes, packed trials
are base64, and the page's policy lets no script run but its own.
"""
