"""Template builds as on E2B: steps on top of a template, each cached under the hash of all that it depends on."""
