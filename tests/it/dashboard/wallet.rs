//! A wallet that signs messages as TronLink does.

use std::fmt::Write as _;

use k256::ecdsa::{RecoveryId, Signature, SigningKey, signature::hazmat::PrehashSigner as _};
use sha3::{Digest as _, Keccak256};

use crate::harness::WALLET;

/// A private key and its address.
pub struct Wallet {
    key: SigningKey,
    pub address: String,
}

impl Wallet {
    /// Returns the wallet with the private key 1. Its address is [`WALLET`].
    pub fn first() -> Self {
        let wallet = Self::of(1);
        assert_eq!(wallet.address, WALLET);
        wallet
    }

    /// Creates the wallet with a small number as its private key.
    pub fn of(number: u8) -> Self {
        let mut secret = [0; 32];
        secret[31] = number;
        let key = SigningKey::from_slice(&secret).expect("not zero");
        let public = key.verifying_key().to_sec1_point(false);
        let hash = Keccak256::digest(&public.as_bytes()[1..]);
        let mut payload = vec![0x41];
        payload.extend_from_slice(&hash[12..]);
        let address = bs58::encode(payload).with_check().into_string();
        Self { key, address }
    }

    /// Signs a message like `signMessageV2`, whose header contains the length of the message in
    /// bytes.
    pub fn sign(&self, message: &str) -> String {
        let length = message.len().to_string();
        self.sign_parts(&[b"\x19TRON Signed Message:\n", length.as_bytes(), message.as_bytes()])
    }

    /// Signs a message in the format of old wallets, whose header contains the length 32 for every
    /// message.
    pub fn sign_legacy(&self, message: &str) -> String {
        self.sign_parts(&[b"\x19TRON Signed Message:\n32", message.as_bytes()])
    }

    fn sign_parts(&self, parts: &[&[u8]]) -> String {
        let hash = Keccak256::digest(parts.concat());
        let signed: Result<(Signature, RecoveryId), _> = self.key.sign_prehash(&hash);
        let (signature, recovery) = signed.expect("32 bytes can be signed");
        let mut text = "0x".to_owned();
        for byte in signature.to_bytes() {
            let _ = write!(text, "{byte:02x}");
        }
        let _ = write!(text, "{:02x}", 27 + recovery.to_byte());
        text
    }
}

#[test]
fn wallet_signatures_match_the_test_vectors() {
    let wallet = Wallet::first();
    assert_eq!(
        wallet.sign("hello world"),
        "0x0dc0b53d525e0103a6013061cf18e60cf158809149f2b8994a545af65a7004cb\
         1eeaff560e801ab51b28df5d42549aa024c2aa7e9d34de1e01294b9afb5e6c7e1c"
    );
    assert_eq!(
        wallet.sign("Zürich ✓"),
        "0xdb558b611b7f19eb8440266e1cc1250f882841b71ed675b875d171d95fc3f686\
         0b74a046b19100d56d687df8a9a93fb0a676fd2ac525353018055af60d3935281c"
    );
}
