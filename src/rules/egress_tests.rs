use proptest::prelude::*;

use super::*;

fn rules(allow: &[&str]) -> EgressRules {
    EgressRules { allow: allow.iter().map(|network| network.parse().unwrap()).collect() }
}

fn judge(allow: &[&str], text: &str) -> Result<Target, EgressError> {
    rules(allow).judge_text(text).map(|(_, target)| target)
}

/// Spellings of hosts to refuse, each with a word from the name of its rule.
const FORBIDDEN: &[(&str, &str)] = &[
    // Loopback in all its spellings.
    ("127.0.0.1", "loopback"),
    ("127.1", "loopback"),
    ("127.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("2130706433", "loopback"),
    ("0x7f000001", "loopback"),
    ("0x7F.0.0.1", "loopback"),
    ("0x7f.1", "loopback"),
    ("017700000001", "loopback"),
    ("0177.0.0.1", "loopback"),
    ("0177.0x0.0.01", "loopback"),
    ("127.0.0.1.", "loopback"),
    ("127。0。0。1", "loopback"),
    ("１２７.0.0.1", "loopback"),
    ("①②⑦.0.0.1", "loopback"),
    ("%31%32%37.0.0.1", "loopback"),
    ("127.0.0.1%2e", "loopback"),
    ("localhost", "loopback"),
    ("LOCALHOST", "loopback"),
    ("localhost.", "loopback"),
    ("a.localhost", "loopback"),
    ("a.b.LocalHost.", "loopback"),
    ("ｌocalhost", "loopback"),
    ("[::1]", "loopback"),
    ("[0:0:0:0:0:0:0:1]", "loopback"),
    ("[0000::0001]", "loopback"),
    ("[::ffff:127.0.0.1]", "loopback"),
    ("[::ffff:7f00:1]", "loopback"),
    ("[0:0:0:0:0:FFFF:7F00:0001]", "loopback"),
    ("[::127.0.0.1]", "loopback"),
    ("[64:ff9b::127.0.0.1]", "loopback"),
    ("[64:ff9b::7f00:1]", "loopback"),
    ("[2002:7f00:1::]", "loopback"),
    ("[2002:7f00:0001:1234::1]", "loopback"),
    // Metadata services and link-local.
    ("169.254.169.254", "link-local"),
    ("2852039166", "link-local"),
    ("0xa9fea9fe", "link-local"),
    ("0251.0376.0251.0376", "link-local"),
    ("[::ffff:169.254.169.254]", "link-local"),
    ("[::ffff:a9fe:a9fe]", "link-local"),
    ("[::a9fe:a9fe]", "link-local"),
    ("[64:ff9b::a9fe:a9fe]", "link-local"),
    ("[2002:a9fe:a9fe::1]", "link-local"),
    ("[64:ff9b:1::a9fe:a9fe]", "local NAT64"),
    ("[64:ff9b:1:a9fe:a9:fe00::]", "local NAT64"),
    ("[fd00:ec2::254]", "private"),
    ("168.63.129.16", "metadata"),
    ("100.100.100.200", "carrier-grade"),
    ("[fe80::1]", "link-local"),
    ("[febf:ffff::1]", "link-local"),
    // Private networks.
    ("10.0.0.7", "private"),
    ("10.7", "private"),
    ("167772167", "private"),
    ("012.0.0.7", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.1.1", "private"),
    ("0xc0a80101", "private"),
    ("[::ffff:10.0.0.7]", "private"),
    ("[::ffff:192.168.1.1]", "private"),
    ("[64:ff9b::10.0.0.7]", "private"),
    ("[2002:c0a8:101::1]", "private"),
    ("[fc00::1]", "private"),
    ("[fdff:ffff::1]", "private"),
    ("[fec0::1]", "site-local"),
    ("100.64.0.1", "carrier-grade"),
    ("100.127.255.255", "carrier-grade"),
    // The rest of the registries.
    ("0", "this network"),
    ("0.0.0.0", "this network"),
    ("0x0", "this network"),
    ("0.1.2.3", "this network"),
    ("[::]", "unspecified"),
    ("[::ffff:0.0.0.0]", "this network"),
    ("192.0.0.1", "IETF"),
    ("192.0.0.170", "IETF"),
    ("192.0.2.1", "documentation"),
    ("192.31.196.1", "AS112"),
    ("192.52.193.1", "multicast"),
    ("192.88.99.1", "6to4"),
    ("192.175.48.1", "AS112"),
    ("198.18.0.1", "benchmarking"),
    ("198.19.255.255", "benchmarking"),
    ("198.51.100.1", "documentation"),
    ("203.0.113.1", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.254", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("4294967295", "broadcast"),
    ("0xffffffff", "broadcast"),
    ("[100::1]", "discard"),
    ("[100:0:0:1::1]", "dummy"),
    ("[2001::1]", "Teredo"),
    ("[2001:0:5ef5:79fd:0:0:80ff:fffe]", "Teredo"),
    ("[2001:2::1]", "IETF"),
    ("[2001:10::1]", "IETF"),
    ("[2001:20::1]", "IETF"),
    ("[2001:1ff:ffff::1]", "IETF"),
    ("[2001:db8::1]", "documentation"),
    ("[2620:4f:8000::1]", "AS112"),
    ("[3fff::1]", "documentation"),
    ("[3fff:fff:ffff::1]", "documentation"),
    ("[5f00::1]", "segment routing"),
    ("[ff02::1]", "multicast"),
    ("[ff0e::1]", "multicast"),
    // Addresses outside of every assigned block.
    ("[::ffff:0:127.0.0.1]", "outside"),
    ("[64:ff9b:0:1::1]", "outside"),
    ("[200::1]", "outside"),
    ("[1fff:ffff::1]", "outside"),
    ("[4000::1]", "outside"),
    ("[fe00::1]", "outside"),
];

#[test]
fn forbidden_addresses_are_refused_in_every_spelling_and_the_rule_is_named() {
    for (host, word) in FORBIDDEN {
        for url in [
            format!("http://{host}/"),
            format!("https://{host}:8443/hook?x=1"),
            format!("HTTPS:\\\\{host}\\a"),
        ] {
            let refusal = judge(&[], &url).expect_err(&url).to_string();
            assert!(refusal.contains(word), "{url}: {refusal}");
            assert!(refusal.contains("[egress] allow_networks"), "{url}: {refusal}");
        }
    }
}

#[test]
fn public_addresses_and_names_are_let_through() {
    let public = [
        ("https://example.com/hook", "example.com:443"),
        ("http://example.com:8080", "example.com:8080"),
        ("https://example.com./", "example.com.:443"),
        ("https://localhost.example.com/", "localhost.example.com:443"),
        ("https://notlocalhost/", "notlocalhost:443"),
        ("https://127.0.0.1.nip.io/", "127.0.0.1.nip.io:443"),
        ("http://8.8.8.8/", "8.8.8.8:80"),
        ("http://134744072/", "8.8.8.8:80"),
        ("http://9.255.255.255/", "9.255.255.255:80"),
        ("http://11.0.0.0/", "11.0.0.0:80"),
        ("http://100.63.255.255/", "100.63.255.255:80"),
        ("http://100.128.0.0/", "100.128.0.0:80"),
        ("http://172.15.255.255/", "172.15.255.255:80"),
        ("http://172.32.0.0/", "172.32.0.0:80"),
        ("http://192.0.1.0/", "192.0.1.0:80"),
        ("http://198.17.255.255/", "198.17.255.255:80"),
        ("http://198.20.0.0/", "198.20.0.0:80"),
        ("http://223.255.255.255/", "223.255.255.255:80"),
        ("https://[2606:4700:4700::1111]/", "[2606:4700:4700::1111]:443"),
        ("https://[2001:200::1]/", "[2001:200::1]:443"),
        ("https://[2001:db9::1]/", "[2001:db9::1]:443"),
        ("https://[3fff:1000::1]/", "[3fff:1000::1]:443"),
        ("https://[::ffff:8.8.8.8]/", "[::ffff:8.8.8.8]:443"),
        ("https://[64:ff9b::8.8.8.8]/", "[64:ff9b::808:808]:443"),
        ("https://[2002:808:808::1]/", "[2002:808:808::1]:443"),
    ];
    for (url, target) in public {
        assert_eq!(
            judge(&[], url).map(|target| target.to_string()),
            Ok(target.to_owned()),
            "{url}"
        );
    }
}

#[test]
fn urls_forbidden_by_their_form_are_refused_with_the_reason() {
    for (url, word) in [
        ("ftp://example.com/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("gopher://127.0.0.1:25/_", "scheme"),
        ("unix:/run/x.sock", "scheme"),
        ("javascript:alert(1)", "scheme"),
        ("data:text/plain,x", "scheme"),
        ("ws://example.com/", "scheme"),
        ("http+unix://x/", "scheme"),
        ("https://user@example.com/", "user name"),
        ("https://user:pass@example.com/", "user name"),
        ("https://:pass@example.com/", "user name"),
        ("https://example.com@127.0.0.1/", "user name"),
        ("https://127.0.0.1%00@example.com/", "user name"),
        ("https://example.com:0/", "port 0"),
        ("http://8.8.8.8:00/", "port 0"),
        ("https://./", "host"),
        ("https://../", "host"),
        ("https://", "must be a URL"),
        ("https:///", "must be a URL"),
        ("https://:443/", "must be a URL"),
        ("https://example.com:65536/", "must be a URL"),
        ("https://1.2.3.4.5/", "must be a URL"),
        ("https://256.0.0.1/", "must be a URL"),
        ("https://0x100000000/", "must be a URL"),
        ("https://127.0.0.09/", "must be a URL"),
        ("https://[::1/", "must be a URL"),
        ("https://[fe80::1%25eth0]/", "must be a URL"),
        ("https://exa mple.com/", "must be a URL"),
        ("https://example.com\0.evil/", "must be a URL"),
        ("example.com/hook", "must be a URL"),
        ("//example.com", "must be a URL"),
        ("", "must be a URL"),
    ] {
        let refusal = judge(&["0.0.0.0/0", "::/0"], url).expect_err(url).to_string();
        assert!(refusal.contains(word), "{url:?}: {refusal}");
    }
}

#[test]
fn a_refusal_names_address_and_rule() {
    let sentence =
        |address: &str| rules(&[]).judge_address(address.parse().unwrap()).unwrap_err().to_string();
    assert_eq!(
        sentence("10.0.0.7"),
        "10.0.0.7 is in 10.0.0.0/8 (private network); allow it with [egress] allow_networks"
    );
    assert_eq!(
        sentence("::ffff:10.0.0.7"),
        "::ffff:10.0.0.7 is another way to write 10.0.0.7, which is in 10.0.0.0/8 (private \
         network); allow it with [egress] allow_networks"
    );
    assert_eq!(
        judge(&[], "http://api.localhost/").unwrap_err().to_string(),
        "api.localhost names this machine: 127.0.0.1 is in 127.0.0.0/8 (loopback); allow it with \
         [egress] allow_networks"
    );
}

#[test]
fn an_allowed_network_wins_also_for_addresses_that_carry_it() {
    for host in
        ["10.1.2.3", "0xa010203", "[::ffff:10.1.2.3]", "[64:ff9b::10.1.2.3]", "[2002:a01:203::1]"]
    {
        assert!(judge(&["10.1.0.0/16"], &format!("http://{host}/")).is_ok(), "{host}");
        assert!(judge(&["10.2.0.0/16", "::/0"], &format!("http://{host}/")).is_err(), "{host}");
    }
    assert!(judge(&["fd00::/8"], "http://[fd00::1]/").is_ok());
    assert!(judge(&["fd00::/8"], "http://[fc00::1]/").is_err());
    for name in ["localhost", "a.localhost."] {
        assert!(judge(&["127.0.0.0/8"], &format!("http://{name}/")).is_ok());
        assert!(judge(&["::1/128"], &format!("http://{name}/")).is_ok());
        assert!(judge(&["10.0.0.0/8"], &format!("http://{name}/")).is_err());
    }
    let local: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap()];
    assert_eq!(rules(&["127.0.0.0/8"]).local_addresses(), Ok(local), "only what is allowed");
}

#[test]
fn every_rule_is_reached_by_the_first_address_of_its_block() {
    for (network, name) in SPECIAL_V4 {
        assert_eq!(rule_for(network.addr().into()).unwrap().name, name, "{network}");
    }
    for (network, name) in SPECIAL_V6 {
        // 2001::/23 begins with Teredo.
        let first =
            if network.prefix_len() == 23 { "2001:1::".parse().unwrap() } else { network.addr() };
        assert_eq!(rule_for(first.into()).unwrap().name, name, "{network}");
    }
}

/// A random address in a random special block.
fn special_v4() -> impl Strategy<Value = Ipv4Addr> {
    (0..SPECIAL_V4.len(), any::<u32>()).prop_map(|(place, random)| {
        let network = SPECIAL_V4[place].0;
        Ipv4Addr::from_bits(network.network().to_bits() | (random & network.hostmask().to_bits()))
    })
}

fn special_v6() -> impl Strategy<Value = Ipv6Addr> {
    (0..SPECIAL_V6.len(), any::<u128>()).prop_map(|(place, random)| {
        let network = SPECIAL_V6[place].0;
        Ipv6Addr::from_bits(network.network().to_bits() | (random & network.hostmask().to_bits()))
    })
}

proptest! {
    #[test]
    fn any_special_ipv4_address_is_refused_plain_and_carried(address in special_v4(),
    random: u128) {
        let bits = u128::from(address.to_bits());
        let carried = [
            IpAddr::V4(address),
            Ipv6Addr::from_bits((0xffff << 32) | bits).into(),
            Ipv6Addr::from_bits((0x64_ff9b << 96) | bits).into(),
            Ipv6Addr::from_bits((0x2002 << 112) | (bits << 80) | (random >> 48)).into(),
            Ipv6Addr::from_bits(bits).into(),
        ];
        for address in carried {
            prop_assert!(rules(&[]).judge_address(address).is_err(), "{address}");
        }
        prop_assert!(judge(&[], &format!("http://{}/", address.to_bits())).is_err(), "decimal \
            {address}");
        prop_assert!(judge(&[], &format!("http://{:#x}/", address.to_bits())).is_err(),
        "hexadecimal {address}");
    }

    #[test]
    fn any_special_ipv6_address_is_refused(address in special_v6()) {
        prop_assert!(rules(&[]).judge_address(address.into()).is_err(), "{address}");
        prop_assert!(judge(&[], &format!("http://[{address}]/")).is_err(), "{address}");
    }

    #[test]
    fn ipv6_outside_of_global_unicast_is_refused_unless_it_carries_a_public_address(bits: u128) {
        let address = Ipv6Addr::from_bits(bits);
        if rules(&[]).judge_address(address.into()).is_ok() {
            prop_assert!(GLOBAL_UNICAST_V6.contains(&address) || unwrap(address.into()).is_ipv4());
        }
    }

    #[test]
    fn no_text_makes_the_judge_panic(text in "\\PC{0,60}", host in "[0-9a-fx.:%\\[\\]]{0,30}") {
        let _either = judge(&[], &text);
        let _either = judge(&[], &format!("http://{host}/"));
    }
}
