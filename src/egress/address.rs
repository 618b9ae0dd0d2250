//! Which addresses may be dialled: those of the public internet, and networks that the operator has allowed.
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks of IPv4 that are nobody's on the internet, or not meant to be called (IANA special-purpose registry).
const NOT_PUBLIC_V4: [([u8; 4], u8); 19] = [
    ([0, 0, 0, 0], 8),        // this network
    ([10, 0, 0, 0], 8),       // private
    ([100, 64, 0, 0], 10),    // carrier-grade NAT
    ([127, 0, 0, 0], 8),      // loopback
    ([168, 63, 129, 16], 32), // a cloud's host agent, under an address that looks public
    ([169, 254, 0, 0], 16),   // link-local, with the metadata services of clouds
    ([172, 16, 0, 0], 12),    // private
    ([192, 0, 0, 0], 24),     // protocol assignments
    ([192, 0, 2, 0], 24),     // documentation
    ([192, 31, 196, 0], 24),  // AS112
    ([192, 52, 193, 0], 24),  // multicast tunnels
    ([192, 88, 99, 0], 24),   // 6to4 relays
    ([192, 168, 0, 0], 16),   // private
    ([192, 175, 48, 0], 24),  // AS112
    ([198, 18, 0, 0], 15),    // benchmarking
    ([198, 51, 100, 0], 24),  // documentation
    ([203, 0, 113, 0], 24),   // documentation
    ([224, 0, 0, 0], 4),      // multicast
    ([240, 0, 0, 0], 4),      // reserved, and broadcast
];

/// All that is given out on the internet. Everything else (loopback, mapped and translated IPv4, unique local, link-local, multicast,
/// …) is outside it.
const PUBLIC_V6: ([u16; 8], u8) = ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// What is inside it and not public all the same.
const NOT_PUBLIC_V6: [([u16; 8], u8); 5] = [
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), // protocol assignments: Teredo, benchmarking, ORCHID
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), // 6to4: any IPv4 address inside
    ([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), // AS112
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // documentation
];

fn holds_v4((network, bits): ([u8; 4], u8), address: Ipv4Addr) -> bool {
    Ipv4Net::new_assert(Ipv4Addr::from(network), bits).contains(&address)
}

fn holds_v6((network, bits): ([u16; 8], u8), address: Ipv6Addr) -> bool {
    Ipv6Net::new_assert(Ipv6Addr::from(network), bits).contains(&address)
}

/// Whether this is an address of the public internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.into_iter().any(|network| holds_v4(network, address)),
        IpAddr::V6(address) => {
            holds_v6(PUBLIC_V6, address) && !NOT_PUBLIC_V6.into_iter().any(|network| holds_v6(network, address))
        }
    }
}

/// Networks that may be dialled beside the public ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(Vec<IpNet>);

impl Allowed {
    /// Reads networks such as `10.1.0.0/16, fd00::/8, 192.0.2.7`, separated by commas.
    ///
    /// # Errors
    /// In words, with the first that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let networks = text.split(',').map(str::trim).filter(|network| !network.is_empty());
        let read = |network: &str| {
            let parsed = network.parse::<IpNet>().or_else(|_| network.parse::<IpAddr>().map(IpNet::from));
            let parsed = parsed.map_err(|_| format!("{network:?} is not a network such as 10.1.0.0/16"))?;
            // 10.1.2.3/8 is either one address or another network: whoever wrote it meant one of them.
            let network = parsed.trunc();
            (network == parsed)
                .then_some(network)
                .ok_or_else(|| format!("{parsed} has bits behind its prefix; {network} is the network"))
        };
        networks.map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether this address may be dialled. An IPv4 address that is written as IPv6 is judged by what it is mapped to.
    pub fn admits(&self, address: IpAddr) -> bool {
        let canonical = address.to_canonical();
        is_public(address) || self.0.iter().any(|network| network.contains(&address) || network.contains(&canonical))
    }
}
