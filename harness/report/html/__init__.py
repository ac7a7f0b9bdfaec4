"""The HTML report: one file that needs no network.

- `render`: the entry point, from runs to a file;
- `page`: the page as plain values, with its list of sections; `page_data` is the material that sections are made from,
  and `pairs`, `pass_at_k`, `task_matrix`, `cost_charts` and `tools` make one section each;
- `charts`: pure functions from values to places on a scale;
- `trials`: a trial's transcript, diff and checks, packed to be unpacked when a reader opens it;
- `report.html`, `macros.html`, `sections/`, `report.css`, `report.js`: layout, looks and behaviour.

All text is untrusted. The templates escape whatever they are given, the script only ever makes text nodes, packed
trials are base64, and the page's policy lets no script run but its own.
"""
