//! Which IP addresses are on the public Internet.
//!
//! An address is checked after its name is resolved, and the connection goes to that same address,
//! so that a name cannot resolve to another one in between. An IPv6 address that wraps an IPv4
//! address is checked as the IPv4 address. Source: the IANA special-purpose address registries (RFC
//! 6890 and its updates).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a component may connect to this address without the operator's permission.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// The address of Azure's platform services on every machine, among them those that serve
/// certificates and settings. It lies in a public range (Microsoft, "What is IP address
/// 168.63.129.16?"). The equivalents of other clouds lie in the ranges below: 169.254/16, 100.64/10
/// (Alibaba's 100.100.100.200), 192.0.0/24 (Oracle's 192.0.0.192) and fc00::/7 (Amazon's
/// fd00:ec2::254).
const AZURE_PLATFORM: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0                        // "this network"
        || address.is_private()                 // 10/8, 172.16/12, 192.168/16
        || (a == 100 && (64..128).contains(&b)) // shared address space of carriers
        || address.is_loopback()
        || address.is_link_local()              // 169.254/16: cloud metadata services live here
        || (a == 192 && b == 0 && c == 0)       // protocol assignments
        || address == AZURE_PLATFORM
        || address.is_documentation()
        || (a == 192 && b == 88 && c == 99)     // former 6to4 relays
        || (a == 198 && (b == 18 || b == 19))   // benchmarking
        || a >= 224; // multicast, reserved, broadcast
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(wrapped) = wrapped_v4(address) {
        return is_public_v4(wrapped);
    }
    let [a, b, ..] = address.segments();
    // Only 2000::/3 is assigned as global unicast; the rest is loopback, link-local, unique-local,
    // multicast or reserved.
    (a & 0xe000) == 0x2000
        && !(a == 0x2001 && b < 0x0200)          // protocol assignments: Teredo, benchmarking, ORCHID
        && !(a == 0x2001 && b == 0x0db8)         // documentation
        && !(a == 0x3fff && b < 0x1000) // documentation
}

/// The IPv4 address inside a mapped (::ffff:a.b.c.d), compatible (::a.b.c.d), translated
/// (64:ff9b::/96) or 6to4 (2002::/16) address.
fn wrapped_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] if high != 0 => Some(v4(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_of_the_house_are_not_public() {
        for text in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.170",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "fec0::1",
            "64:ff9b:1::1",
            "5f00::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        for text in
            ["1.1.1.1", "168.63.129.17", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2001:4860:4860::8888"]
        {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn wrapped_ipv4_addresses_are_judged_as_the_ipv4_address() {
        for text in [
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:168.63.129.16",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::10.0.0.1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }
}
