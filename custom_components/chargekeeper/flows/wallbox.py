"""Config flow steps for a Wallbox account: credentials, password renewal, addresses of the cloud.

ChargeKeeper tries every input before it accepts it, within the account's request budget.
"""

from collections.abc import Mapping
from typing import Any

from homeassistant.config_entries import ConfigEntry, ConfigFlowResult
from homeassistant.const import CONF_EMAIL, CONF_PASSWORD
from homeassistant.data_entry_flow import AbortFlow, section
from homeassistant.helpers.selector import TextSelector, TextSelectorConfig, TextSelectorType
import voluptuous as vol
from yarl import URL

from ..const import CONF_API_URL, CONF_CHARGERS, CONF_KIND, CONF_SERVER, CONF_USER_API_URL, KIND_WALLBOX_ACCOUNT
from ..core.errors import ChargerError, LoginRejected
from ..core.model import Identity
from ..entries.kind import kind_of
from ..ha.errors import flow_error, retry_minutes
from ..ha.issues import other_integration
from ..ha.shared_state import Credentials, account_key, as_entry_data, get_shared_state, owned_elsewhere
from ..wallbox.client import DEFAULT_API_URL, DEFAULT_USER_API_URL
from .user_flow import UserFlow

TITLE = "Wallbox account"

PASSWORD_SELECTOR = TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD, autocomplete="current-password"))
URL_SELECTOR = TextSelector(TextSelectorConfig(type=TextSelectorType.URL))
ACCOUNT_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_EMAIL): TextSelector(
            TextSelectorConfig(type=TextSelectorType.EMAIL, autocomplete="username")
        ),
        vol.Required(CONF_PASSWORD): PASSWORD_SELECTOR,
        vol.Required(CONF_SERVER): section(
            vol.Schema(
                {
                    vol.Required(CONF_USER_API_URL, default=DEFAULT_USER_API_URL): URL_SELECTOR,
                    vol.Required(CONF_API_URL, default=DEFAULT_API_URL): URL_SELECTOR,
                }
            ),
            {"collapsed": True},
        ),
    }
)


class WallboxSteps(UserFlow):
    """Config flow steps for Wallbox accounts."""

    def __init__(self) -> None:
        super().__init__()
        self._credentials: dict[str, Any] = {}
        self._chargers: tuple[Identity, ...] = ()
        self._other_entry: ConfigEntry | None = None
        self._retry = 1

    async def async_step_wallbox_account(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the credentials of an account, and sign in."""
        errors: dict[str, str] = {}
        if user_input is not None:
            self._credentials = _normalized(user_input)
            self._chargers = await self._sign_in(self._credentials, errors)
            if self._chargers:
                self._other_entry = other_integration(self.hass, self._credentials[CONF_EMAIL])
                return self._create() if self._other_entry is None else await self.async_step_other_integration()
        return self._account_form(KIND_WALLBOX_ACCOUNT, user_input, errors)

    async def async_step_other_integration(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Warn about another integration that shares the account's rate limit."""
        if user_input is not None:
            return self._create()
        assert self._other_entry is not None
        return self.async_show_form(
            step_id="other_integration",
            data_schema=vol.Schema({}),
            description_placeholders={"entry": self._other_entry.title},
        )

    async def async_step_reauth(self, entry_data: Mapping[str, Any]) -> ConfigFlowResult:
        """Start when the cloud has refused the password twice."""
        return await self.async_step_reauth_confirm()

    async def async_step_reauth_confirm(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the new password."""
        entry = self._get_reauth_entry()
        errors = dict[str, str]()
        if user_input is not None:
            credentials = {**entry.data, **user_input}
            if await self._is_same_account(entry, credentials, errors):
                return self.async_update_and_abort(entry, data_updates=user_input)
        return self.async_show_form(
            step_id="reauth_confirm",
            data_schema=vol.Schema({vol.Required(CONF_PASSWORD): PASSWORD_SELECTOR}),
            errors=errors,
            description_placeholders={"email": entry.data[CONF_EMAIL], "retry": str(self._retry)},
        )

    async def async_reconfigure_account(
        self, entry: ConfigEntry, user_input: dict[str, Any] | None
    ) -> ConfigFlowResult:
        """Change the credentials and the addresses of the cloud."""
        errors = dict[str, str]()
        if user_input is not None:
            credentials = _normalized(user_input)
            if await self._is_same_account(entry, credentials, errors):
                return self.async_update_and_abort(entry, data_updates=credentials)
        present = {key: entry.data[key] for key in (CONF_EMAIL, CONF_SERVER)}
        suggested = present if user_input is None else user_input
        return self._account_form("reconfigure", suggested, errors)

    async def _sign_in(self, credentials: Credentials, errors: dict[str, str]) -> tuple[Identity, ...]:
        """Sign in and return the chargers. On failure add an error to `errors` and return none.

        Raises:
            AbortFlow: the account is already set up.
        """
        if not _has_valid_urls(credentials, errors):
            return ()
        accounts = (entry for entry in self._async_current_entries() if kind_of(entry) == KIND_WALLBOX_ACCOUNT)
        if account_key(credentials) in [account_key(entry.data) for entry in accounts]:
            raise AbortFlow("already_configured")  # before the first request, which would use the budget of that entry
        account = get_shared_state(self.hass).trial(self.hass, credentials)
        try:
            chargers = await account.list_chargers()
        except ChargerError as err:
            self._add_error(err, errors)
            return ()
        assert account.user_id is not None  # known after signing in
        await self.async_claim(account.user_id)
        self._abort_if_unique_id_configured(reload_on_update=False)
        if not chargers:
            errors["base"] = "no_chargers"
        return chargers

    async def _is_same_account(self, entry: ConfigEntry, credentials: Credentials, errors: dict[str, str]) -> bool:
        """Return True if these credentials sign in to the account of the entry. Otherwise add an error to `errors`.

        Raises:
            AbortFlow: the credentials belong to another account.
        """
        if not _has_valid_urls(credentials, errors):
            return False
        shared_state = get_shared_state(self.hass)
        account = shared_state.account_at(self.hass, entry, credentials)
        try:
            user_id = await account.verify_credentials(str(credentials[CONF_EMAIL]), str(credentials[CONF_PASSWORD]))
        except ChargerError as err:
            self._add_error(err, errors)
            return False
        await self.async_set_unique_id(user_id)
        self._abort_if_unique_id_mismatch(reason="wrong_account")
        shared_state.adopt(user_id, account)
        return True

    def _add_error(self, err: ChargerError, errors: dict[str, str]) -> None:
        self._retry = retry_minutes(err)
        errors[CONF_PASSWORD if isinstance(err, LoginRejected) else "base"] = flow_error(err)

    def _account_form(self, step_id: str, suggested: dict[str, Any] | None, errors: dict[str, str]) -> ConfigFlowResult:
        return self.async_show_form(
            step_id=step_id,
            data_schema=self.add_suggested_values_to_schema(ACCOUNT_SCHEMA, suggested),
            errors=errors,
            description_placeholders={"retry": str(self._retry)},
        )

    def _create(self) -> ConfigFlowResult:
        """Add the entry, with the chargers that belong to no other entry."""
        # Another flow may have added the account in the meantime.
        self._abort_if_unique_id_configured(reload_on_update=False)
        elsewhere = owned_elsewhere(self.hass)
        chargers = [charger for charger in self._chargers if charger.serial not in elsewhere]
        if not chargers:
            return self.async_abort(reason="all_chargers_known")
        shared_state = get_shared_state(self.hass)
        account = shared_state.trial(self.hass, self._credentials)
        shared_state.adopt(str(self.unique_id), account)
        data = {CONF_KIND: KIND_WALLBOX_ACCOUNT, **self._credentials, CONF_CHARGERS: as_entry_data(chargers)}
        return self.async_create_entry(title=TITLE, data=data)


def _normalized(user_input: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input without surrounding spaces and trailing slashes."""
    server = {key: url.strip().rstrip("/") for key, url in user_input[CONF_SERVER].items()}
    return {**user_input, CONF_EMAIL: user_input[CONF_EMAIL].strip(), CONF_SERVER: server}


def _has_valid_urls(credentials: Credentials, errors: dict[str, str]) -> bool:
    server = credentials[CONF_SERVER]
    assert isinstance(server, Mapping)
    if not all(_is_web_address(url) for url in server.values()):
        errors["base"] = "invalid_url"
        return False
    return True


def _is_web_address(text: str) -> bool:
    try:
        url = URL(text)
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and bool(url.host)
