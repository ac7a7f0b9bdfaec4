"""Building templates, as E2B builds them: from a template, in steps, each kept under the hash of all it depends on."""
