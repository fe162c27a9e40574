import pytest
import torch

from edgenext_mm.errors import UserError
from edgenext_mm.models.loading import check_weights, read_checkpoint


def test_weights_of_something_else_are_refused():
    model = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match=r'Missing: bias, weight\. Unexpected: x'):
        check_weights(model, {'x': torch.zeros(1)}, 'a.pth')


def test_a_truncated_checkpoint_is_refused(tmp_path, digits_checkpoint):
    path = tmp_path / 'cut.pth'
    path.write_bytes(digits_checkpoint.read_bytes()[:5000])
    with pytest.raises(UserError, match=r'cut\.pth cannot be read as a PyTorch checkpoint'):
        read_checkpoint(path)


def test_a_missing_checkpoint_is_refused():
    with pytest.raises(UserError, match=r'There is no checkpoint none\.pth'):
        read_checkpoint('none.pth')


def test_a_file_that_holds_no_checkpoint_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(UserError, match='holds a list, not a checkpoint'):
        read_checkpoint(tmp_path / 'list.pth')
