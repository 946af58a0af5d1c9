"""Every use of Ray's private API, by subject; its tests fail when Ray changes it."""
