//! Workspaces, connections, vault entries, cache: what a platform embeds
