use aes::cipher::BlockModeEncrypt;

use super::*;

const ENDS: &str = "2026-11-22T09:00:00Z";

/// Writes a field as ACK does.
fn field<C: KeyInit + aes::cipher::BlockCipherEncrypt>(keyring: &str, text: &str) -> String
where
    cbc::Encryptor<C>: InnerIvInit<Inner = C> + BlockModeEncrypt,
{
    let iv = [7; IV_BYTES];
    let cipher = C::new_from_slice(keyring.as_bytes()).unwrap();
    let encryptor = cbc::Encryptor::<C>::inner_iv_slice_init(cipher, &iv).unwrap();
    let mut buffer = text.as_bytes().to_vec();
    buffer.resize(text.len() + IV_BYTES, 0);
    let ciphertext = encryptor.encrypt_padded::<Pkcs7>(&mut buffer, text.len()).unwrap();
    STANDARD.encode([&iv[..], ciphertext].concat())
}

fn token<C: KeyInit + aes::cipher::BlockCipherEncrypt>(keyring: &str) -> String
where
    cbc::Encryptor<C>: InnerIvInit<Inner = C> + BlockModeEncrypt,
{
    serde_json::json!({
        "access.key.id": field::<C>(keyring, "STS.id"),
        "access.key.secret": field::<C>(keyring, "the secret"),
        "security.token": field::<C>(keyring, "the token"),
        "expiration": ENDS,
        "keyring": keyring,
    })
    .to_string()
}

#[test]
fn the_length_of_the_keyring_says_which_aes_it_is() {
    for text in [
        token::<aes::Aes128>(&"k".repeat(16)),
        token::<aes::Aes192>(&"k".repeat(24)),
        token::<aes::Aes256>(&"k".repeat(32)),
    ] {
        let Temporary { key, expires } = decrypt(text.as_bytes()).unwrap();
        assert_eq!((key.id(), key.secret(), key.security_token()), ("STS.id", "the secret", Some("the token")));
        assert_eq!(jiff::Timestamp::try_from(expires).unwrap().to_string(), ENDS);
    }
}

/// A vector made with another implementation: OpenSSL's `enc -aes-128-cbc`, key `0123456789abcdef`, vector of 16 bytes 01.
#[test]
fn a_field_that_another_implementation_encrypted_is_read() {
    let field = field_of(b"0123456789abcdef", VECTOR).unwrap();
    assert_eq!(field.expose_secret(), "LTAI-a-secret-of-30-characters");
}

const VECTOR: &str = "AQEBAQEBAQEBAQEBAQEBAT/YX96Dsd9xz59J4uXhHv3gUPDBTYi7frj4Nty3Xj5N";

#[test]
fn what_is_cut_off_or_of_another_keyring_is_refused_and_not_repeated() {
    let whole = token::<aes::Aes256>(&"k".repeat(32));
    for length in 0..whole.len() {
        let error = decrypt(&whole.as_bytes()[..length]).err().unwrap();
        assert!(matches!(error, CredentialError::Malformed { .. }), "{length}");
        assert!(!error.to_string().contains("kkk"));
    }
    let other = whole.replace(&"k".repeat(32), &"j".repeat(32));
    assert!(matches!(decrypt(other.as_bytes()), Err(CredentialError::Malformed { .. } | CredentialError::Empty(_))));
    for keyring in ["", "short", &"k".repeat(33)] {
        assert!(field_of(keyring.as_bytes(), VECTOR).is_err(), "{keyring}");
    }
    for field in ["", "AAAA", "not base64", &STANDARD.encode([0; 16]), &STANDARD.encode([0; 31])] {
        assert!(field_of(b"0123456789abcdef", field).is_err(), "{field}");
    }
}
