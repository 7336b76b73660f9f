//! Seals of rows: who may open what is decided by rows that are not secret, so they must be
//! authentic.
//!
//! **Invariant:** a row of a sealed table is believed only with the seal that the host made for it:
//! a MAC over the table, and the name and value of each column. A row that was changed by anything
//! else than the host, or put together from other rows, opens nothing.
//!
//! An envelope (`sealed_...`) is bound to its row and the row's version already. The seal covers
//! only whether there is one, so sealing values again under another key leaves it as it is.
//!
//! What a seal cannot show: that a row is missing, or that a whole row was replaced by an earlier
//! version of itself.

/// Makes and checks seals.
pub trait RowSealer: Send + Sync + 'static {
    /// The seal of a row that says this.
    fn seal(&self, row: &[u8]) -> [u8; 32];

    /// Whether this is the seal of a row that says this. It takes the same time for any wrong seal.
    fn is_seal(&self, row: &[u8], seal: &[u8]) -> bool;
}
