"""Programmable transaction commands: arguments become typed values, calls run, coins split and merge, objects move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from daas.devstack.ledger.encoding import Value
from daas.devstack.ledger.errors import BytecodeError, ExecutionFailedError, LedgerError, argument_error
from daas.devstack.ledger.execution import Execution
from daas.devstack.ledger.interpreter import call
from daas.devstack.ledger.natives.registry import COPY, DROP, KEY, STORE, NativeFunction, Ref, copy_value
from daas.devstack.ledger.objects import Object, Owner
from daas.devstack.ledger.packages import Publisher
from daas.devstack.ledger.program import Function, Package
from daas.devstack.ledger.slots import PureSlot, ReceivingSlot, Slot, is_pure, withdrawal_of
from daas.devstack.ledger.transaction_data import (
    Argument,
    Command,
    GasCoin,
    InputArgument,
    MakeMoveVec,
    MergeCoins,
    MoveCall,
    Pure,
    ReceivingInput,
    SharedInput,
    SplitCoins,
    Transaction,
    TransferObjects,
    Upgrade,
    WithdrawalInput,
)
from daas.devstack.ledger.type_tags import (
    COIN_KEY,
    SUI,
    TX_CONTEXT,
    Datatype,
    Reference,
    Type,
    Vector,
    format_type,
    substitute,
)

U64_MAX: Final = (1 << 64) - 1
UPGRADE_CAP: Final = Datatype(SUI, "package", "UpgradeCap")
UPGRADE_TICKET: Final = Datatype(SUI, "package", "UpgradeTicket")
UPGRADE_RECEIPT: Final = Datatype(SUI, "package", "UpgradeReceipt")
RECEIVING_KEY: Final = (SUI, "transfer", "Receiving")
# Only the module that defines a type may use these on it: a transaction can't.
_PRIVATE_GENERICS: Final = frozenset(
    {
        (SUI, "transfer", "transfer"),
        (SUI, "transfer", "share_object"),
        (SUI, "transfer", "freeze_object"),
        (SUI, "transfer", "receive"),
        (SUI, "event", "emit"),
    }
)


class CommandRunner:
    """Runs the commands of one transaction in order."""

    def __init__(
        self,
        execution: Execution,
        transaction: Transaction,
        objects: Mapping[bytes, Object],
        publisher: Publisher,
        *,
        gas: Slot | None,
        gas_is_reserved: bool = False,
    ) -> None:
        self.execution = execution
        self.program = execution.program
        self.transaction = transaction
        self.gas = gas
        self.gas_is_reserved = gas_is_reserved
        self.results: list[list[Slot]] = []
        self.inputs: list[Slot | PureSlot | ReceivingSlot] = []
        self.slots: dict[bytes, Slot] = {}
        self.packages: list[Package] = []
        self.command = 0
        self._publisher = publisher
        for entry in transaction.inputs:
            if isinstance(entry, Pure):
                self.inputs.append(PureSlot(entry.value, {}))
                continue
            if isinstance(entry, ReceivingInput):
                self.inputs.append(ReceivingSlot(entry.ref.id, entry.ref.version))
                continue
            if isinstance(entry, WithdrawalInput):
                owner = transaction.payer if entry.from_sponsor else transaction.sender
                self.inputs.append(Slot([[owner, entry.amount]], withdrawal_of(entry.coin_type)))
                continue
            shared = isinstance(entry, SharedInput)
            object_id = entry.id if isinstance(entry, SharedInput) else entry.ref.id
            held = objects[object_id]
            writable = entry.mutable if isinstance(entry, SharedInput) else held.owner.kind != "immutable"
            value = execution.codec.decode(held.type, held.contents)
            slot = Slot([value], held.type, writable=writable, by_value=writable and (shared or writable))
            self.inputs.append(slot)
            self.slots[object_id] = slot

    def run(self) -> None:
        """Run all commands.

        Raises:
            ExecutionFailedError: one of them failed; `command` is its index.
        """
        for position, command in enumerate(self.transaction.commands):
            self.command = position
            self.results.append(self._dispatch(command))
        for index, results in enumerate(self.results):
            for position, slot in enumerate(results):
                if not slot.moved and not self.program.abilities(slot.type) & DROP:
                    self.command = index
                    raise ExecutionFailedError(
                        "UNUSED_VALUE_WITHOUT_DROP",
                        f"result {position} of command {index}, a {format_type(slot.type)}, must be used",
                        argument=position,
                    )

    def _dispatch(self, command: Command) -> list[Slot]:
        if isinstance(command, MoveCall):
            return self._move_call(command)
        if isinstance(command, TransferObjects):
            return self._transfer(command)
        if isinstance(command, SplitCoins):
            return self._split(command)
        if isinstance(command, MergeCoins):
            return self._merge(command)
        if isinstance(command, MakeMoveVec):
            return self._make_vector(command)
        if isinstance(command, Upgrade):
            return self._upgrade(command)
        package = self._publisher.publish(command.modules, command.dependencies, self.execution)
        self.packages.append(package)
        self._initialise(package)
        cap: Value = [[[self.execution.fresh_id()]], [package.id], 1, 0]
        return [Slot([cap], UPGRADE_CAP)]

    def output(self, slot: Slot) -> tuple[str, bytes]:
        """A result's type and BCS."""
        return format_type(slot.type), self.execution.codec.encode(slot.type, slot.cell[0])

    # Arguments

    def _slot(self, index: int, argument: Argument) -> Slot | PureSlot | ReceivingSlot:
        if isinstance(argument, GasCoin):
            if self.gas is None:
                raise argument_error(index, "INVALID_GAS_COIN_USAGE", "no coin pays for this transaction")
            return self.gas
        if isinstance(argument, InputArgument):
            if argument.index >= len(self.inputs):
                raise argument_error(index, "INDEX_OUT_OF_BOUNDS", f"there are {len(self.inputs)} inputs")
            return self.inputs[argument.index]
        if argument.command >= len(self.results):
            raise argument_error(index, "INDEX_OUT_OF_BOUNDS", f"command {argument.command} has not run")
        results = self.results[argument.command]
        if argument.nested is None and len(results) != 1:
            raise argument_error(
                index, "INVALID_RESULT_ARITY", f"command {argument.command} has {len(results)} results"
            )
        nested = argument.nested or 0
        if nested >= len(results):
            raise argument_error(index, "SECONDARY_INDEX_OUT_OF_BOUNDS", f"{len(results)} results, {nested} wanted")
        return results[nested]

    def _typed(self, index: int, argument: Argument, type_: Type) -> Slot:
        slot = self._slot(index, argument)
        if isinstance(slot, PureSlot):
            found = slot.cells.get(type_)
            if found is None:
                found = slot.cells[type_] = Slot([self._pure(index, slot.data, type_)], type_)
            return found
        if isinstance(slot, ReceivingSlot):
            if not isinstance(type_, Datatype) or type_.key != RECEIVING_KEY:
                raise argument_error(index, "TYPE_MISMATCH", f"an object to receive is no {format_type(type_)}")
            if slot.cell is None:
                slot.cell = Slot([[[slot.object_id], slot.version]], type_)
            slot = slot.cell
        if slot.moved:
            raise argument_error(index, "ARGUMENT_WITHOUT_VALUE", "the value has been used up by an earlier command")
        if slot.type != type_:
            raise argument_error(
                index, "TYPE_MISMATCH", f"{format_type(type_)} expected, {format_type(slot.type)} given"
            )
        return slot

    def _pure(self, index: int, data: bytes, type_: Type) -> Value:
        if not is_pure(type_):
            raise argument_error(
                index, "INVALID_USAGE_OF_PURE_ARGUMENT", f"{format_type(type_)} can't be given as bytes"
            )
        try:
            return self.execution.codec.decode(type_, data)
        except LedgerError as error:
            raise argument_error(index, "INVALID_BCS_BYTES", f"no {format_type(type_)}: {error.message}") from None

    def _reference(self, index: int, argument: Argument, type_: Type, *, mutable: bool) -> Ref:
        slot = self._typed(index, argument, type_)
        if mutable and not slot.writable:
            raise argument_error(index, "INVALID_OBJECT_BY_MUT_REF", "the object was given as read-only")
        return Ref(slot.cell, 0)

    def _value(self, index: int, argument: Argument, type_: Type) -> Value:
        slot = self._typed(index, argument, type_)
        if self.program.abilities(slot.type) & COPY:
            return copy_value(slot.cell[0])
        if slot is self.gas:
            raise argument_error(index, "INVALID_GAS_COIN_USAGE", "the gas coin can be taken by TransferObjects only")
        if not slot.by_value:
            raise argument_error(index, "INVALID_OBJECT_BY_VALUE", "the object was given as read-only")
        slot.moved = True
        return slot.cell[0]

    # Commands

    def _move_call(self, command: MoveCall) -> list[Slot]:
        key = (command.package, command.module, command.function)
        function = self.program.function(*key)
        name = f"0x{command.package.hex().lstrip('0')}::{command.module}::{command.function}"
        if function is None:
            raise ExecutionFailedError("FUNCTION_NOT_FOUND", f"no function {name}")
        if not function.public and not function.entry:
            raise ExecutionFailedError("NON_ENTRY_FUNCTION_INVOKED", f"{name} is neither public nor entry")
        if key in _PRIVATE_GENERICS:
            raise ExecutionFailedError("NON_ENTRY_FUNCTION_INVOKED", f"{name} is for the module that defines the type")
        types = tuple(self.program.defined(type_) for type_ in command.type_arguments)
        self._check_type_arguments(function, types, name)
        parameters = function.parameters
        context = parameters and isinstance(parameters[-1], Reference) and parameters[-1].target == TX_CONTEXT
        wanted = len(parameters) - bool(context)
        if len(command.arguments) != wanted:
            raise ExecutionFailedError(
                "ARITY_MISMATCH", f"{name} takes {wanted} arguments, got {len(command.arguments)}"
            )
        values: list[Value] = []
        for index, argument in enumerate(command.arguments):
            parameter = substitute(parameters[index], types)
            if isinstance(parameter, Reference):
                values.append(self._reference(index, argument, parameter.target, mutable=parameter.mutable))
            else:
                values.append(self._value(index, argument, parameter))
        if context:
            values.append(Ref([None], 0))
        returns = [substitute(t, types) for t in function.returns]
        if any(isinstance(t, Reference) for t in returns):
            raise ExecutionFailedError("INVALID_PUBLIC_FUNCTION_RETURN_TYPE", f"{name} returns a reference")
        self.execution.calling = (command.package, command.module)
        results = call(self.execution, function, types, values)
        return [Slot([value], type_) for value, type_ in zip(results, returns, strict=True)]

    def _check_type_arguments(self, function: Function | NativeFunction, types: tuple[Type, ...], name: str) -> None:
        native = isinstance(function, NativeFunction)
        count = len(function.type_parameters if isinstance(function, NativeFunction) else function.constraints)
        if count != len(types):
            raise ExecutionFailedError("TYPE_ARITY_MISMATCH", f"{name} takes {count} type arguments, got {len(types)}")
        for index, type_ in enumerate(types):
            if isinstance(function, NativeFunction):
                needed = KEY | STORE if native and function.module == "transfer" else 0
            else:
                needed = function.constraints[index]
            try:
                have = self.program.abilities(type_)
            except LedgerError as error:
                raise ExecutionFailedError("TYPE_ARGUMENT_ERROR", error.message, argument=index) from None
            if have & needed != needed:
                raise ExecutionFailedError(
                    "TYPE_ARGUMENT_ERROR", f"{format_type(type_)} lacks an ability that {name} needs", argument=index
                )

    def _transfer(self, command: TransferObjects) -> list[Slot]:
        count = len(command.objects)
        recipient = self._value(count, command.address, "address")
        for index, argument in enumerate(command.objects):
            slot = self._slot(index, argument)
            if not isinstance(slot, Slot):
                raise argument_error(index, "TYPE_MISMATCH", "an object expected")
            if slot is not self.gas:
                self._value(index, argument, slot.type)
            elif slot.moved:
                raise argument_error(index, "ARGUMENT_WITHOUT_VALUE", "the gas coin has been transferred already")
            elif self.gas_is_reserved:
                raise argument_error(index, "INVALID_GAS_COIN_USAGE", "an address balance can't be given away whole")
            slot.moved = True
            if self.program.abilities(slot.type) & (KEY | STORE) != KEY | STORE:
                raise ExecutionFailedError(
                    "INVALID_TRANSFER_OBJECT", f"{format_type(slot.type)} can be transferred by its module only"
                )
            self.execution.place(slot.type, slot.cell[0], Owner("address", recipient))
        return []

    def _coin(self, index: int, argument: Argument) -> tuple[Slot, Value]:
        slot = self._slot(index, argument)
        if not isinstance(slot, Slot) or not isinstance(slot.type, Datatype) or slot.type.key != COIN_KEY:
            raise argument_error(index, "TYPE_MISMATCH", "a coin expected")
        reference = self._reference(index, argument, slot.type, mutable=True)
        return slot, reference.get()

    def _split(self, command: SplitCoins) -> list[Slot]:
        slot, coin = self._coin(0, command.coin)
        made: list[Slot] = []
        for index, argument in enumerate(command.amounts, 1):
            amount = self._value(index, argument, "u64")
            if coin[1][0] < amount:
                raise ExecutionFailedError("INSUFFICIENT_COIN_BALANCE", f"{coin[1][0]} in the coin, {amount} to take")
            coin[1][0] -= amount
            made.append(Slot([[[[self.execution.fresh_id()]], [amount]]], slot.type))
        return made

    def _merge(self, command: MergeCoins) -> list[Slot]:
        slot, coin = self._coin(0, command.coin)
        for index, argument in enumerate(command.merged, 1):
            merged = self._value(index, argument, slot.type)
            if merged is coin:
                raise argument_error(index, "INVALID_VALUE_USAGE", "a coin can't be merged into itself")
            if coin[1][0] + merged[1][0] > U64_MAX:
                raise ExecutionFailedError("COIN_BALANCE_OVERFLOW", "the sum of the coins does not fit 64 bits")
            coin[1][0] += merged[1][0]
            self.execution.delete_id(merged[0][0][0])
        return []

    def _make_vector(self, command: MakeMoveVec) -> list[Slot]:
        element = command.element
        if element is None:
            if not command.elements:
                raise ExecutionFailedError("TYPE_ARITY_MISMATCH", "an empty vector needs its element type")
            first = self._slot(0, command.elements[0])
            if not isinstance(first, Slot) or not self.program.abilities(first.type) & KEY:
                raise argument_error(
                    0, "INVALID_MAKE_MOVE_VEC_NON_OBJECT_ARGUMENT", "objects or an element type wanted"
                )
            element = first.type
        element = self.program.defined(element)
        items = [self._value(index, argument, element) for index, argument in enumerate(command.elements)]
        return [Slot([bytearray(items) if element == "u8" else items], Vector(element))]

    def _upgrade(self, command: Upgrade) -> list[Slot]:
        cap, package_id, policy, digest = self._value(0, command.ticket, UPGRADE_TICKET)
        if package_id[0] != command.package:
            raise ExecutionFailedError("PACKAGE_UPGRADE_ERROR", "the ticket is for another package")
        package = self._publisher.upgrade(
            command.modules,
            command.dependencies,
            package_id=command.package,
            policy=policy,
            ticket_digest=bytes(digest),
            execution=self.execution,
        )
        self.packages.append(package)
        return [Slot([[cap, [package.id]]], UPGRADE_RECEIPT)]

    def _initialise(self, package: Package) -> None:
        for (address, module, name), function in list(self.program.functions.items()):
            if address == package.id and name == "init":
                if len(function.parameters) != 1:
                    raise BytecodeError(f"{module}::init takes a one-time witness, which is not supported")
                self.execution.calling = (address, module)
                call(self.execution, function, (), [Ref([None], 0)])
