//! Limits the length of those parts of a request that a component sets and that stay in the host's
//! memory until the request is sent or dropped.
//!
//! wasmtime bounds the headers and the scheme. It accepts a method and an authority of any length
//! and a path of 64 KiB: 8 MiB twice behind each of a thousand handles. This module therefore
//! replaces three functions of `wasi:http/types` in the linker; a longer part is refused as
//! malformed.
//!
//! The instance must have exactly the name that wasmtime's bindings use. Under any other name these
//! functions would stand beside the originals and change nothing. The test with the component
//! `hoards-methods` detects that.

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest as _, Method, OutgoingRequest};

use crate::state::CallState;

type Request = Resource<OutgoingRequest>;
type Text = Option<String>;

const TYPES: &str = "wasi:http/types@0.2.12";

/// The longest in IANA's registry has 17 (`UPDATEREDIRECTREF`).
pub(crate) const METHOD_BYTES: usize = 32;
/// A name has at most 253 (RFC 1035, section 2.3.4), a port 6 with its colon; the guard refuses
/// user names.
pub(crate) const AUTHORITY_BYTES: usize = 300;
/// Common servers take a request line of 8 KiB.
pub(crate) const PATH_BYTES: usize = 16 << 10;

/// Replaces functions that `wasmtime_wasi_http` has added to the linker.
pub(crate) fn limit(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap("[method]outgoing-request.set-method", |mut store, (request, method): (Request, Method)| {
        if matches!(&method, Method::Other(name) if name.len() > METHOD_BYTES) {
            return Ok((Err(()),));
        }
        Ok((store.data_mut().http().set_method(request, method)?,))
    })?;
    types.func_wrap("[method]outgoing-request.set-authority", |mut store, (request, text): (Request, Text)| {
        if !fits(&text, AUTHORITY_BYTES) {
            return Ok((Err(()),));
        }
        Ok((store.data_mut().http().set_authority(request, text)?,))
    })?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store, (request, text): (Request, Text)| {
            if !fits(&text, PATH_BYTES) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_path_with_query(request, text)?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn fits(text: &Text, limit: usize) -> bool {
    text.as_ref().is_none_or(|text| text.len() <= limit)
}
