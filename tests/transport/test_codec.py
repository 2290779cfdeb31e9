import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deffd_flower.transport import CodecError, decode_tensors, encode_tensors

torch.set_num_threads(1)

MODEL = {
    "conv.weight": torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) / 7,
    "bn.num_batches_tracked": torch.tensor(12),
    "half": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
    "mask": torch.tensor([True, False]),
    "empty": torch.empty(0, 3),
}


def test_every_tensor_comes_back_with_its_type_shape_and_bits() -> None:
    decoded = decode_tensors(encode_tensors(MODEL))
    assert decoded.keys() == MODEL.keys()
    for name, tensor in MODEL.items():
        assert decoded[name].dtype == tensor.dtype
        assert torch.equal(decoded[name], tensor)


def test_values_are_kept_to_the_bit() -> None:
    bits = torch.tensor([0x7FC00001, 0x7F800000, -0x80000000, 1], dtype=torch.int32)
    decoded = decode_tensors(encode_tensors({"w": bits.view(torch.float32)}))
    assert torch.equal(decoded["w"].view(torch.int32), bits)


def test_equal_models_have_equal_bytes_whatever_the_order_of_names() -> None:
    backwards = dict(reversed(MODEL.items()))
    assert list(backwards) != list(MODEL)
    assert encode_tensors(backwards) == encode_tensors(MODEL)


def test_views_gradients_and_tied_weights_can_be_encoded() -> None:
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    parameter = torch.nn.Parameter(base)
    tensors = {"whole": base, "transposed": base.t(), "row": base[1], "parameter": parameter}
    decoded = decode_tensors(encode_tensors(tensors))
    for name, tensor in tensors.items():
        assert torch.equal(decoded[name], tensor)
    decoded["whole"][0, 0] = 99.0
    assert decoded["parameter"][0, 0] == 0.0


def test_decoded_tensors_can_be_trained() -> None:
    layer = torch.nn.Linear(3, 2)
    layer.load_state_dict(decode_tensors(encode_tensors(layer.state_dict())))
    decoded = decode_tensors(encode_tensors({"w": torch.ones(2)}))["w"].requires_grad_()
    (gradient,) = torch.autograd.grad(decoded.sum() * 2, decoded)
    assert gradient.tolist() == [2.0, 2.0]


def test_sparse_tensors_are_an_error() -> None:
    with pytest.raises(CodecError):
        encode_tensors({"w": torch.eye(3).to_sparse()})


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a received byte was unpickled",))


def test_pickles_are_not_opened() -> None:
    for hostile in (pickle.dumps(Bomb()), pickle.dumps(MODEL["mask"])):
        with pytest.raises(CodecError):
            decode_tensors(hostile)


ENCODED = encode_tensors(MODEL)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damaged_models_raise_the_one_documented_error_or_decode(data: st.DataObject) -> None:
    blob = bytearray(ENCODED)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.one_of(st.integers(0, 9), st.integers(0, len(blob) - 1)))
        blob[position] = data.draw(st.integers(0, 255))
    damaged = bytes(blob[: data.draw(st.integers(0, len(blob)))])
    try:
        decoded = decode_tensors(damaged)
    except CodecError:
        return
    assert all(isinstance(tensor, torch.Tensor) for tensor in decoded.values())


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"\xff" * 8,
        b"\xff" * 7 + b"\x7f" + b"{",
        b"\x02\0\0\0\0\0\0\0[]",
        b"\x02\0\0\0\0\0\0\0{}" + b"x",
        b'\x3a\0\0\0\0\0\0\0{"w":{"dtype":"F32","shape":[9999],"data_offsets":[0,4]}} \0\0\0\0',
        b'\x3a\0\0\0\0\0\0\0{"w":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}    \0\0\0\0',
        b'\x3a\0\0\0\0\0\0\0{"w":{"dtype":"F4","shape":[8],"data_offsets":[0,4]}}     \0\0\0\0',
    ],
)
def test_hostile_headers_raise_the_one_documented_error(hostile: bytes) -> None:
    with pytest.raises(CodecError) as raised:
        decode_tensors(hostile)
    assert str(raised.value) == "the received bytes are not a model in safetensors format"


def test_importing_the_transport_does_not_import_torch() -> None:
    program = "import sys, deffd_flower.transport; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
