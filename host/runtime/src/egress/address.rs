//! Which IP addresses are on the public Internet.
//!
//! An address is checked after its name is resolved, and the connection goes to that same address,
//! so that a name cannot resolve to another one in between. An IPv6 address that wraps an IPv4
//! address is checked as the IPv4 address. Source: the IANA special-purpose address registries (RFC
//! 6890 and its updates).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a component may not connect to this address without the operator's permission, as words
/// that follow "is"; `None` for an address of the public Internet.
pub(crate) fn special(address: IpAddr) -> Option<&'static str> {
    match canonical(address) {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

/// The address of Azure's platform services on every machine, among them those that serve
/// certificates and settings. It lies in a public range (Microsoft, "What is IP address
/// 168.63.129.16?"). The equivalents of other clouds lie in the ranges below: 169.254/16, 100.64/10
/// (Alibaba's 100.100.100.200), 192.0.0/24 (Oracle's 192.0.0.192) and fc00::/7 (Amazon's
/// fd00:ec2::254).
const AZURE_PLATFORM: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let kind = match address.octets() {
        [0, ..] => "an address of \"this network\" (0.0.0.0/8)",
        [127, ..] => "a loopback address (127.0.0.0/8)",
        [10, ..] => "a private address (10.0.0.0/8)",
        [172, 16..=31, ..] => "a private address (172.16.0.0/12)",
        [192, 168, ..] => "a private address (192.168.0.0/16)",
        [100, 64..=127, ..] => "an address that carriers and filtering DNS use (100.64.0.0/10)",
        // Cloud metadata services live here.
        [169, 254, ..] => "a link-local address (169.254.0.0/16)",
        [192, 0, 0, _] => "an address for protocols (192.0.0.0/24)",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "an address for documentation",
        [192, 88, 99, _] => "an address of former 6to4 relays (192.88.99.0/24)",
        [198, 18 | 19, ..] => "an address that benchmarks and filtering DNS use (198.18.0.0/15)",
        [224..=239, ..] => "a multicast address (224.0.0.0/4)",
        [240..=255, ..] => "a reserved address (240.0.0.0/4)",
        _ if address == AZURE_PLATFORM => "an address of the cloud's own platform",
        _ => return None,
    };
    Some(kind)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let kind = match address.segments() {
        _ if address.is_loopback() => "the loopback address (::1)",
        [0xfc00..=0xfdff, ..] => "a private address (fc00::/7)",
        [0xfe80..=0xfebf, ..] => "a link-local address (fe80::/10)",
        [0xff00..=0xffff, ..] => "a multicast address (ff00::/8)",
        // Teredo, benchmarking, ORCHID
        [0x2001, 0..=0x01ff, ..] => "an address for protocols (2001::/23)",
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => "an address for documentation",
        // The only part that is assigned as global unicast.
        [0x2000..=0x3fff, ..] => return None,
        _ => "a reserved address",
    };
    Some(kind)
}

/// The address that is judged: an IPv4 address inside of an IPv6 address, else the address itself.
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => wrapped_v4(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
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
            assert!(special(text.parse().unwrap()).is_some(), "{text}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        for text in
            ["1.1.1.1", "168.63.129.17", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2001:4860:4860::8888"]
        {
            assert_eq!(special(text.parse().unwrap()), None, "{text}");
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
            assert!(special(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in ["::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::"] {
            assert_eq!(special(text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn an_address_is_named_with_its_kind() {
        for (text, kind) in [
            ("198.18.0.42", "198.18.0.0/15"),
            ("100.64.3.7", "100.64.0.0/10"),
            ("::ffff:100.64.3.7", "100.64.0.0/10"),
            ("2002:c612:2a::", "198.18.0.0/15"),
            ("fd00::1", "fc00::/7"),
            ("203.0.113.9", "documentation"),
        ] {
            assert!(special(text.parse().unwrap()).unwrap().contains(kind), "{text}");
        }
    }
}
