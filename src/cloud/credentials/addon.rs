//! The token that ACK mounts into its addons: a file with a temporary key, encrypted with AES-CBC under a keyring that
//! stands beside it (aliyun-api.md §6). The file is replaced before its key ends, so it is read again and again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockCipherDecrypt, BlockModeDecrypt, InnerIvInit, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::fetch::{self, Secret};
use super::refreshing::{Fetching, Source, Temporary};
use super::{AccessKey, CredentialError};

/// Where ACK mounts the token.
pub const ADDON_TOKEN: &str = "/var/addon/token-config";

/// Bytes of the initialisation vector that stands before each ciphertext: one block of AES.
const IV_BYTES: usize = 16;

/// An addon token.
pub struct AddonToken(PathBuf);

impl AddonToken {
    /// The token of this file.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl Source for AddonToken {
    const NAME: &'static str = "the addon token";
    /// As often as the vendor's own controllers do.
    const REREAD: Option<Duration> = Some(Duration::from_secs(10 * 60));

    fn fetch(&self) -> Fetching<'_> {
        Box::pin(async move { decrypt(&fetch::file(Self::NAME, &self.0)?) })
    }
}

#[derive(Deserialize)]
struct Token {
    #[serde(rename = "access.key.id")]
    id: String,
    #[serde(rename = "access.key.secret")]
    secret: String,
    #[serde(rename = "security.token")]
    security_token: String,
    expiration: String,
    keyring: Secret,
}

fn decrypt(bytes: &[u8]) -> Result<Temporary, CredentialError> {
    let token: Token = fetch::decode(AddonToken::NAME, bytes)?;
    let keyring = token.keyring.0.expose_secret().as_bytes();
    let [id, secret, security_token] =
        [&token.id, &token.secret, &token.security_token].map(|field| field_of(keyring, field));
    let id = id?.expose_secret().to_owned();
    Ok(Temporary {
        key: AccessKey::new(id, secret?, Some(security_token?))?,
        expires: fetch::moment(AddonToken::NAME, &token.expiration)?,
    })
}

/// One field: base64 of the vector and the ciphertext. The length of the key says which AES it is.
fn field_of(keyring: &[u8], field: &str) -> Result<SecretString, CredentialError> {
    let bytes = STANDARD.decode(field).map_err(|_| malformed("a field is no base64"))?;
    let (iv, ciphertext) = bytes.split_at_checked(IV_BYTES).ok_or_else(|| malformed("a field is too short"))?;
    let mut plain = Zeroizing::new(ciphertext.to_vec());
    let length = match keyring.len() {
        16 => padded::<aes::Aes128>(keyring, iv, &mut plain),
        24 => padded::<aes::Aes192>(keyring, iv, &mut plain),
        32 => padded::<aes::Aes256>(keyring, iv, &mut plain),
        _ => return Err(malformed("the keyring is no AES key")),
    };
    let text = length.and_then(|length| std::str::from_utf8(plain.get(..length)?).ok());
    text.map(SecretString::from).ok_or_else(|| malformed("a field cannot be decrypted with the keyring"))
}

/// Decrypts in place; how many bytes are left without the padding.
fn padded<C: KeyInit + BlockCipherDecrypt>(keyring: &[u8], iv: &[u8], bytes: &mut [u8]) -> Option<usize>
where
    cbc::Decryptor<C>: InnerIvInit<Inner = C> + BlockModeDecrypt,
{
    let cipher = C::new_from_slice(keyring).ok()?;
    let decryptor = cbc::Decryptor::<C>::inner_iv_slice_init(cipher, iv).ok()?;
    decryptor.decrypt_padded::<Pkcs7>(bytes).ok().map(<[u8]>::len)
}

const fn malformed(why: &'static str) -> CredentialError {
    CredentialError::Malformed { what: AddonToken::NAME, why }
}

#[cfg(test)]
mod tests;
